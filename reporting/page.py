"""A page that stands alone in one file: the style and the script that several reports share, and nothing loaded."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

PARTS = ("page.css", "page.js")


def render_page(package: str, template: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """A template of a package's `templates/` as text. Beside `values` it gets `style`, `script` and `script_hash`, the
    hash by which the page's content policy lets that script run, and no other. A name that is missing is an error."""
    style, script = (page_part(name) for name in PARTS)
    environment = Environment(
        loader=PackageLoader(package), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )


def page_part(name: str) -> str:
    """One of `PARTS` as text."""
    return files("reporting").joinpath(name).read_text(encoding="utf-8")
