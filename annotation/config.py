"""The labelling page: Label Studio's config for the blind verdict project, made from any number of policies.

One image, of which nothing says whether it was edited, blurred until the annotator shows it. Per policy its text
and a required verdict; the rules to name appear when the verdict is "unsafe". A project belongs to one hash of
config and policies and is never changed: the server would let a used choice vanish and break the data.
"""

import html
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import get_args

from policies.engine import Policy, PolicySet, regulated
from storage.records.ids import content_id
from storage.records.verdicts import Verdict

CONFIG_VERSION = 4  # raise it whenever the page changes: a new page is a new project
IMAGE, COMMENT, BOXES, SHOW, OPEN = "image", "comment", "boxes", "show", "open"
_LONG = 20  # rules on a page; with more, each policy's are opened when they are wanted
_TITLE_CHARS = 50  # Label Studio's limit

# One keyboard column per policy: safe above unsafe above unsure. Rules take the keys that are left, because
# Label Studio gives every choice without a key one of its own choosing. Never the image's own keys: `h` pans, `r`
# draws, `v` selects; and `b` ends the blur.
_COLUMNS = ("1qa", "2ws", "3ed", "4tf", "5yg", "6uj", "7ik", "8ol", "9pn", "0mc")
_KEYS = "67890uiopjklzxcnm"
_SHOW_KEY = "b"
KEYS = f"{_SHOW_KEY} shows, Ctrl+Enter submits, Ctrl+Space skips; the same key twice takes an answer away"

# What all pages have in common. The first rules blur until a box is ticked, which is empty again with each task. Where
# the pointer is does not matter: it rests where the next picture appears. Label Studio sets `filter` on the image
# itself, hence the `!important`. The next rules take away its region panels, which no page has a use for.
STYLE = """
.gs-image { overflow: hidden; }
.gs-image img, .gs-image canvas { filter: blur(24px) !important; }
body:has(.gs-show .ant-checkbox-checked) .gs-image :is(img, canvas) { filter: none !important; }
.gs-show { display: flex; gap: 0 16px; align-items: center; flex-wrap: wrap; padding: 4px 0; }
.gs-show .lsf-choices { margin: 0 !important; }
.gs-keys * { font-size: 12px !important; font-weight: 400 !important; margin: 0 !important; }
.lsf-sidepanels { padding-right: 0 !important; }
.lsf-sidepanels__wrapper { display: none !important; }
[data-testid=textarea-submit-section] { display: none !important; }
"""
_STYLE = (
    STYLE
    + """\
.gs-page { display: flex; gap: 20px; align-items: flex-start; }
.gs-left { flex: 0 0 34%; position: sticky; top: 0; }
@media (min-width: 1600px) { .gs-left { flex-basis: 50%; } }
.gs-right { flex: 1 1 0; min-width: 0; }
.gs-policy { border-top: 1px solid #c8c8c8; padding: 3px 0; }
.gs-head { display: flex; gap: 0 12px; align-items: center; flex-wrap: wrap; }
.gs-name { flex: 0 0 215px; }
.gs-name * { font-size: 14px !important; margin: 0 !important; line-height: 1.4 !important; }
.gs-text * { font-size: 13px !important; font-weight: 400 !important; margin: 0 !important; }
.gs-text * { line-height: 1.35 !important; }
.gs-votes * { font-size: 13px !important; font-weight: 600 !important; line-height: 1.35 !important; }
.gs-votes * { margin: 0 !important; padding: 0 !important; }
.gs-head .lsf-choices { margin: 0 !important; }
.gs-head .lsf-choice__checkbox { height: 22px; line-height: 22px; white-space: nowrap; }
.gs-open .lsf-choices { margin: 4px 0 !important; }
.gs-rules { border-top: 1px solid #c8c8c8; padding: 6px 0; }
.gs-rules .lsf-choices { margin: 0 !important; max-height: 38vh; overflow-y: auto; }
.gs-rules input:not([type="checkbox"]) { background: none !important; color: inherit !important; }
.gs-rules label { white-space: normal !important; height: auto !important; line-height: 1.35 !important; }
"""
)


def verdict_control(policy_id: str) -> str:
    """Name of the control that holds a policy's verdict."""
    return f"{policy_id}_verdict"


def rules_control(policy_id: str) -> str:
    """Name of the control that holds the rules said to be broken."""
    return f"{policy_id}_rules"


def project_key(policies: PolicySet, config_version: int = CONFIG_VERSION, *, kind: str = "verdict") -> str:
    """The hash that names a project: its kind, the page's version and every policy's content."""
    return project_key_of([(p.id, p.content_hash) for p in policies], config_version, kind=kind)


def project_key_of(policies: Iterable[tuple[str, str]], config_version: int, *, kind: str) -> str:
    """The same from ids and content hashes, in the order of the ids."""
    return content_id(f"{kind}-project", config_version, sorted(policies))


def project_title(name: str, key: str) -> str:
    """A title of at most 50 characters that carries the project's key."""
    tail = f" [{key[:12]}]"
    return name[: _TITLE_CHARS - len(tail)].rstrip() + tail


def label_config(policies: PolicySet) -> str:
    """The labelling config as XML. Choice values: `safe`, `unsafe`, `unsure`, and rule ids such as `L2.R1`."""
    root, right = image_page()
    rows = list(policy_rows(right, policies))
    is_long = sum(len(policy.rules) for policy in policies) > _LONG
    for row in rows:
        verdict_choices(row, required=True)
        if not is_long:
            rule_choices(row)
            policy_text(row)
    if is_long:
        _open_one_by_one(right, rows)
    return page_xml(root)


def _open_one_by_one(right: ET.Element, rows: Sequence["PolicyRow"]) -> None:
    """Below all verdicts: which policy's text to read, and of those that are broken the rules, to be searched."""
    chooser = ET.SubElement(right, "View", className="gs-open")
    opened = ET.SubElement(
        chooser, "Choices", name=OPEN, toName=IMAGE, choice="multiple", required="false", showInline="true"
    )
    for row in rows:
        value = f"{row.policy.id} text"
        add_choice(opened, row.rule_keys, value=value)
        text = ET.SubElement(
            right, "View", className="gs-rules", visibleWhen="choice-selected", whenTagName=OPEN, whenChoiceValue=value
        )
        policy_text(replace(row, row=text))
    to_find = [next(row.rule_keys, None) for row in rows]
    for row, key in zip(rows, to_find, strict=True):
        found = ET.SubElement(right, "View", className="gs-rules", attrib=_when_unsafe(row))
        name = rules_control(row.policy.id)
        hint = f"{row.policy.id}: find a rule{f' ({key})' if key else ''}, Enter takes the first, Tab goes on"
        ET.SubElement(
            found, "Filter", {"hotkey": key} if key else {}, name=f"{name}_find", toName=name, placeholder=hint,
            cleanup="false", minlength="2",
        )  # fmt: skip
        rule_choices(replace(row, head=found), with_text=True)


def image_page(comment: str = "Comment (optional)") -> tuple[ET.Element, ET.Element]:
    """A page with the blurred image, boxes to draw on it and a comment at the left; and its empty right side."""
    root = ET.Element("View")
    ET.SubElement(root, "Style").text = _STYLE
    page = ET.SubElement(root, "View", className="gs-page")
    left = ET.SubElement(page, "View", className="gs-left")
    image = ET.SubElement(left, "View", className="gs-image")
    ET.SubElement(image, "Image", name=IMAGE, value="$image", maxHeight="68vh", defaultZoom="fit")
    ET.SubElement(image, "Rectangle", name=BOXES, toName=IMAGE, strokeWidth="2")
    add_show(left, IMAGE)
    ET.SubElement(
        left, "TextArea", name=COMMENT, toName=IMAGE, placeholder=f"{comment}; Enter takes it", rows="1",
        maxSubmissions="1", required="false",
    )  # fmt: skip
    return root, ET.SubElement(page, "View", className="gs-right")


def add_show(parent: ET.Element, image: str) -> None:
    """The box that ends the blur of all pictures on the page. It is part of the answer, and nobody reads it."""
    row = ET.SubElement(parent, "View", className="gs-show")
    show = ET.SubElement(
        row, "Choices", name=SHOW, toName=image, choice="multiple", required="false", showInline="true"
    )
    ET.SubElement(show, "Choice", value="Show", hotkey=_SHOW_KEY)
    keys = ET.SubElement(row, "View", className="gs-keys")
    ET.SubElement(keys, "Header", value=KEYS, size="6")


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One policy's place on the page: the whole row, its first line, and keys for its verdict and its rules."""

    policy: Policy
    row: ET.Element
    head: ET.Element
    verdict_keys: Iterator[str]
    rule_keys: Iterator[str]


def policy_rows(right: ET.Element, policies: PolicySet) -> Iterator[PolicyRow]:
    """A row per policy that holds its name only."""
    spare = _spare_keys(len(policies))
    for number, policy in enumerate(policies):
        row = ET.SubElement(right, "View", className="gs-policy")
        head = ET.SubElement(row, "View", className="gs-head")
        name = ET.SubElement(head, "View", className="gs-name")
        ET.SubElement(name, "Header", value=f"{policy.id} · {policy.name}", size="5")
        yield PolicyRow(policy, row, head, iter(_COLUMNS[number]) if number < len(_COLUMNS) else spare, spare)


def policy_text(row: PolicyRow) -> None:
    """The policy's own words, below the choices."""
    text = ET.SubElement(row.row, "View", className="gs-text")
    for line in (row.policy.preamble, *(f"{rule.id}. {rule.text}" for rule in row.policy.rules)):
        ET.SubElement(text, "Header", value=line, size="6")


def page_xml(root: ET.Element) -> str:
    """The page as the text that the server takes."""
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _spare_keys(policies: int) -> Iterator[str]:
    """The keys that no policy's column takes, then all with shift, alt and the like: a choice without a key would be
    given one of the image's own."""
    taken = set("".join(_COLUMNS[:policies]))
    both = (
        f"{held}+{k}" for held in ("shift", "alt", "shift+alt", "ctrl+alt", "ctrl+shift") for k in "".join(_COLUMNS)
    )
    return chain((k for k in _KEYS if k not in taken), both)


def verdict_choices(row: PolicyRow, *, required: bool) -> None:
    """Safe, unsafe or unsure."""
    name = row.policy.id
    verdict = ET.SubElement(
        row.head, "Choices", name=verdict_control(name), toName=IMAGE, choice="single-radio",
        required=str(required).lower(), showInline="true", requiredMessage=f"{name}: choose safe, unsafe or unsure.",
    )  # fmt: skip
    for value in get_args(Verdict):
        add_choice(verdict, row.verdict_keys, value=value)


def _when_unsafe(row: PolicyRow) -> dict[str, str]:
    """Seen only when the policy's verdict is "unsafe"."""
    wanted = {"whenTagName": verdict_control(row.policy.id), "whenChoiceValue": "unsafe"}
    return {"visibleWhen": "choice-selected", **wanted}


def rule_choices(row: PolicyRow, *, with_text: bool = False) -> None:
    """The rules to name, if there are any: on the verdict's line, seen and required only when it is "unsafe". Those
    `with_text` stand one below the other."""
    name = row.policy.id
    if not row.policy.rules:
        return
    rules = ET.SubElement(
        row.head, "Choices", name=rules_control(name), toName=IMAGE, choice="multiple", required="true",
        showInline=str(not with_text).lower(), requiredMessage=f"{name}: choose the rules that the image breaks.",
        attrib=_when_unsafe(row),
    )  # fmt: skip
    for rule in row.policy.rules:
        if with_text:
            add_choice(rules, row.rule_keys, value=f"{rule.id}. {rule.text}", alias=f"{name}.{rule.id}")
        else:
            add_choice(rules, row.rule_keys, value=rule.id, alias=f"{name}.{rule.id}", hint=rule.text)


def add_choice(parent: ET.Element, keys: Iterator[str], **attributes: str) -> None:
    """One choice, with the next key while there is one."""
    key = next(keys, None)
    ET.SubElement(parent, "Choice", attributes | ({"hotkey": key} if key else {}))


def instruction_html(policies: PolicySet) -> str:
    """What annotators read before they begin: how to label, how to look after themselves, each policy in full."""
    return "\n".join(
        [
            "<h3>One image, several policies</h3>",
            "<p>Judge the image under each policy on its own, by the policy's text alone and not by your own view. "
            "Choose <b>unsafe</b> when a rule is broken, and name the rules. Choose <b>unsure</b> when you cannot "
            "tell. You may draw a box around what breaks a rule.</p>"
            "<p>Some images open with answers filled in. A program did that, from what it believes to see: check each, "
            "and change what is wrong.</p>",
            wellbeing_html(policies),
            policies_html(policies),
        ]
    )


def wellbeing_html(policies: PolicySet) -> str:
    """The note on breaks and on opting out, with the kinds of content that these policies are about.

    annotation/opt_out.py keeps away what is known to show such things; for what slips through there is Skip.
    """
    kinds = [a.noun for a in policies.vocabulary.values() if a.id in regulated(policies, policies.vocabulary)]
    listed = html.escape(", ".join(kinds)) or "anything"
    return (
        "<h4>Look after yourself</h4>"
        "<p>Every picture is blurred until you tick <b>Show</b> or press <b>b</b>. Stop for five minutes after half "
        "an hour and for a longer while after two hours; stop at once when something stays with you, and tell the "
        f"person who runs this project.</p><p>What you may meet here: {listed}. You may opt out of any of these, "
        "without a reason: tell that person before you begin, and pictures known to show it are not given to you. For "
        "what slips through, and for whatever else you would rather not judge, press <b>Skip</b>. Skips are counted "
        "but never held against you; the picture goes to somebody else.</p>"
    )


def policies_html(policies: PolicySet) -> str:
    """Each policy in full."""
    parts = []
    for policy in policies:
        rules = "".join(f"<li><b>{r.id}</b> {html.escape(r.text)}</li>" for r in policy.rules)
        parts.append(f"<h4>{policy.id} · {html.escape(policy.name)}</h4>")
        parts.append(f"<p>{html.escape(policy.setting)} {html.escape(policy.preamble)}</p>")
        parts.append(f"<ul>{rules}</ul>" if rules else "<p>There are no rules.</p>")
    return "\n".join(parts)
