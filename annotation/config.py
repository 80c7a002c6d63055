"""The labelling page: Label Studio's config for the blind verdict project, made from any number of policies.

One image, of which nothing says whether it was edited, blurred until the pointer is on it. Per policy its text
and a required verdict; the rules to name appear when the verdict is "unsafe". A project belongs to one hash of
config and policies and is never changed: the server would let a used choice vanish and break the data.
"""

import html
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import get_args

from policies.engine import Policy
from storage.records import Verdict, content_id

CONFIG_VERSION = 1  # raise it whenever the page changes: a new page is a new project
IMAGE, COMMENT = "image", "comment"
_TITLE_CHARS = 50  # Label Studio's limit

# One keyboard column per policy: safe above unsafe above unsure. Rules take the keys that are left, because
# Label Studio gives every choice without a key one of its own choosing. Never `h`, which pans the image.
_COLUMNS = ("1qa", "2ws", "3ed", "4rf", "5tg", "6yn", "7uj", "8ik", "9ol", "0pm")
_KEYS = "67890yuiopjklzxcvbnm"

# The page's own stylesheet. The first rules blur; Label Studio sets `filter` on the image itself, hence the
# `!important`. The next give the width of its region panels, which this page has no use for, to the policies.
_STYLE = """
.gs-image { overflow: hidden; }
.gs-image img, .gs-image canvas { filter: blur(24px) !important; }
.gs-image:hover img, .gs-image:hover canvas { filter: none !important; }
.lsf-sidepanels { padding-right: 0 !important; }
.lsf-sidepanels__wrapper { display: none !important; }
.gs-page { display: flex; gap: 20px; align-items: flex-start; }
.gs-left { flex: 0 0 34%; position: sticky; top: 0; }
.gs-right { flex: 1 1 0; min-width: 0; }
.gs-policy { border-top: 1px solid #c8c8c8; padding: 3px 0; }
.gs-head { display: flex; gap: 0 12px; align-items: center; flex-wrap: wrap; }
.gs-name { flex: 0 0 215px; }
.gs-name * { font-size: 14px !important; margin: 0 !important; line-height: 1.4 !important; }
.gs-text * { font-size: 13px !important; font-weight: 400 !important; margin: 0 !important; }
.gs-text * { line-height: 1.35 !important; }
.gs-head .lsf-choices { margin: 0 !important; }
.gs-head .lsf-choice__checkbox { height: 22px; line-height: 22px; white-space: nowrap; }
[data-testid=textarea-submit-section] { display: none !important; }
"""


def verdict_control(policy_id: str) -> str:
    """Name of the control that holds a policy's verdict."""
    return f"{policy_id}_verdict"


def rules_control(policy_id: str) -> str:
    """Name of the control that holds the rules said to be broken."""
    return f"{policy_id}_rules"


def project_key(policies: Sequence[Policy], config_version: int = CONFIG_VERSION) -> str:
    """The hash that names a verdict project: the page's version and every policy's content."""
    return content_id("verdict-project", config_version, [(p.id, p.content_hash) for p in policies])


def project_title(name: str, key: str) -> str:
    """A title of at most 50 characters that carries the project's key."""
    tail = f" [{key[:12]}]"
    return name[: _TITLE_CHARS - len(tail)].rstrip() + tail


def label_config(policies: Sequence[Policy]) -> str:
    """The labelling config as XML. Choice values: `safe`, `unsafe`, `unsure`, and rule ids such as `L2.R1`."""
    root = ET.Element("View")
    ET.SubElement(root, "Style").text = _STYLE
    page = ET.SubElement(root, "View", className="gs-page")
    left = ET.SubElement(page, "View", className="gs-left")
    image = ET.SubElement(left, "View", className="gs-image")
    ET.SubElement(image, "Image", name=IMAGE, value="$image", maxHeight="44vh", defaultZoom="fit")
    ET.SubElement(
        left, "TextArea", name=COMMENT, toName=IMAGE, placeholder="Comment (optional)", rows="2", maxSubmissions="1",
        required="false",
    )  # fmt: skip
    right = ET.SubElement(page, "View", className="gs-right")
    spare = _spare_keys(len(policies))
    for number, policy in enumerate(policies):
        row = ET.SubElement(right, "View", className="gs-policy")
        head = ET.SubElement(row, "View", className="gs-head")
        name = ET.SubElement(head, "View", className="gs-name")
        ET.SubElement(name, "Header", value=f"{policy.id} · {policy.name}", size="5")
        _verdict(head, policy, iter(_COLUMNS[number]) if number < len(_COLUMNS) else spare)
        if policy.rules:
            _rules(head, policy, spare)
        text = ET.SubElement(row, "View", className="gs-text")
        for line in (policy.preamble, *(f"{rule.id}. {rule.text}" for rule in policy.rules)):
            ET.SubElement(text, "Header", value=line, size="6")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _spare_keys(policies: int) -> Iterator[str]:
    """The keys that no policy's column takes, then the same with shift."""
    taken = set("".join(_COLUMNS[:policies]))
    return chain((k for k in _KEYS if k not in taken), (f"shift+{k}" for k in "".join(_COLUMNS)))


def _verdict(parent: ET.Element, policy: Policy, keys: Iterator[str]) -> None:
    verdict = ET.SubElement(
        parent, "Choices", name=verdict_control(policy.id), toName=IMAGE, choice="single-radio", required="true",
        showInline="true", requiredMessage=f"{policy.id}: choose safe, unsafe or unsure.",
    )  # fmt: skip
    for value in get_args(Verdict):
        _choice(verdict, keys, value=value)


def _rules(parent: ET.Element, policy: Policy, keys: Iterator[str]) -> None:
    """The rules to name, on the verdict's line, seen and required only when it is "unsafe"."""
    shown = {"visibleWhen": "choice-selected", "whenTagName": verdict_control(policy.id), "whenChoiceValue": "unsafe"}
    rules = ET.SubElement(
        parent, "Choices", name=rules_control(policy.id), toName=IMAGE, choice="multiple", required="true",
        showInline="true", requiredMessage=f"{policy.id}: choose the rules that the image breaks.", attrib=shown,
    )  # fmt: skip
    for rule in policy.rules:
        _choice(rules, keys, value=rule.id, alias=f"{policy.id}.{rule.id}", hint=rule.text)


def _choice(parent: ET.Element, keys: Iterator[str], **attributes: str) -> None:
    key = next(keys, None)
    ET.SubElement(parent, "Choice", attributes | ({"hotkey": key} if key else {}))


def instruction_html(policies: Sequence[Policy]) -> str:
    """What annotators read before they begin: how to label, how to rest, and each policy in full."""
    parts = [
        "<h3>One image, several policies</h3>",
        "<p>Judge the image under each policy on its own, by the policy's text alone and not by your own view. "
        "Choose <b>unsafe</b> when a rule is broken, and name the rules. Choose <b>unsure</b> when you cannot "
        "tell.</p>",
        "<p>The image is blurred until the pointer is on it. Take a break when you want one. You may skip any "
        "image without giving a reason.</p>",
    ]
    for policy in policies:
        rules = "".join(f"<li><b>{r.id}</b> {html.escape(r.text)}</li>" for r in policy.rules)
        parts.append(f"<h4>{policy.id} · {html.escape(policy.name)}</h4>")
        parts.append(f"<p>{html.escape(policy.setting)} {html.escape(policy.preamble)}</p>")
        parts.append(f"<ul>{rules}</ul>" if rules else "<p>There are no rules.</p>")
    return "\n".join(parts)
