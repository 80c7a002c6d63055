"""The dataset card: README.md with the front matter that `datasets.load_dataset` reads, and counts for people."""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from guard.contract.prompt import prompt_hash
from guard.export import summary
from guard.export.diff import Difference
from guard.export.finish import Finish
from guard.export.parquet import Shard, Shards
from guard.export.prepare import Prepared
from guard.export.probe import Auc, Probe
from guard.export.summary import ViewCounts
from reporting.figures import measure


def probe_rows(probe: Probe) -> list[tuple[str, Auc | None]]:
    """What the probe was asked, in words, with its answer."""
    return [
        ("unsafe against safe", probe.unsafe),
        ("unsafe against safe, control edits left out", probe.unsafe_without_controls),
        ("edited against original", probe.edited),
        ("edited against original, control edits left out", probe.edited_without_controls),
        *((f"unsafe against safe under {policy_id}, by the role alone", auc) for policy_id, auc in probe.role.items()),
    ]


def _quote(text: str) -> str:
    """A quotation that keeps every line apart."""
    return "\n>\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _cell(text: str) -> str:
    """Text that breaks no table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def render_card(
    made: Prepared,
    *,
    about: Mapping[str, Any],
    shards: Shards,
    finish: Finish,
    changes: Difference | str | None = None,
) -> str:
    """README.md as text. `about` holds name, version and the settings, `changes` what differs from the version before
    (a sentence where that cannot be said, None where there was none)."""
    environment = Environment(
        loader=PackageLoader("guard.export"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(measure=measure, quote=_quote, cell=_cell)
    data = made.data
    files = {view: {s: [_file(view, x) for x in xs] for s, xs in splits.items()} for view, splits in shards.items()}
    return environment.get_template("card.md.j2").render(
        **{name: value for name, value in about.items() if name != "images"},
        pictures=about["images"],
        files=files,
        views=made.views,
        left_out={summary.LEFT_OUT.get(reason, reason): n for reason, n in made.left_out.items()},
        families={split: len(ids) for split, ids in summary.families_by_split(made.plan).items()},
        kept_from_test=made.kept_from_test,
        leaks=len(made.leaks),
        by_policy=_counts("policy", made.views, "by_policy", {p.id: _cell(f"{p.id} {p.name}") for p in data.policies}),
        by_category=_counts("category", made.views, "by_category", {}),
        images=summary.image_counts(data),
        matrix=summary.matrix_counts(data),
        total_labels=len(data.labels),
        licences=summary.licences(data),
        simulated=data.simulated,
        reworded=data.reworded,
        policies=data.policies,
        agreement=data.agreement,
        by_attributes=data.confirmed.agreement,
        stages=data.stages,
        prompt_hash=prompt_hash(rules=about["rl"]["name_rules"]),
        yields=summary.edit_yields(data),
        witnesses=summary.witnesses(data),
        finish_chosen=finish,
        probe=finish.probe,
        probe_rows=probe_rows(finish.probe),
        changes=None if isinstance(changes, str) else changes,
        no_changes=changes if isinstance(changes, str) else "",
    )


def _counts(heading: str, views: ViewCounts, part: str, names: Mapping[str, str]) -> str:
    """A table of `safe / unsafe` with a column per view and split; empty without a row. `names` maps keys to names."""
    columns = {f"{view} {split}": c[part] for view, splits in views.items() for split, c in splits.items() if part in c}
    keys = list(names) or sorted({key for found in columns.values() for key in found})
    if not columns or not keys:
        return ""
    lines = [[heading, *columns], ["---", *["---:"] * len(columns)]]
    none = {"safe": 0, "unsafe": 0}
    for key in keys:
        cells = (found.get(key, none) for found in columns.values())
        lines.append([names.get(key, _cell(key.replace("_", " "))), *(f"{c['safe']} / {c['unsafe']}" for c in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _file(view: str, shard: Shard) -> dict[str, Any]:
    return {"path": f"{view}/{shard.path.name}", "rows": shard.rows, "arrow_bytes": shard.arrow_bytes}
