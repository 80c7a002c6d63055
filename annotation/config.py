"""The labelling page: Label Studio's config for the blind verdict project, made from any number of policies.

One image, of which nothing says whether it was edited, blurred until the pointer is on it. Per policy its text
and a required verdict; the rules to name appear when the verdict is "unsafe". A project belongs to one hash of
config and policies and is never changed: the server would let a used choice vanish and break the data.
"""

import html
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from policies.engine import Policy
from storage.records import content_id

CONFIG_VERSION = 1  # raise it whenever the page changes: a new page is a new project
IMAGE, COMMENT = "image", "comment"
_TITLE_CHARS = 50  # Label Studio's limit

# One keyboard column per policy: safe above unsafe above unsure. Never `h`, which pans the image.
_KEYS = ("1qa", "2ws", "3ed", "4rf", "5tg", "6yn", "7uj", "8ik", "9ol", "0pm")

_STYLE = """
.gs-page { display: flex; gap: 20px; align-items: flex-start; }
.gs-left { flex: 0 0 38%; position: sticky; top: 0; }
.gs-right { flex: 1 1 0; min-width: 0; }
.gs-image img { filter: blur(16px); }
.gs-image:hover img { filter: none; }
.gs-policy { border-top: 1px solid #ccc; padding: 6px 0 4px; }
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
    for number, policy in enumerate(policies):
        _policy_row(right, policy, _KEYS[number] if number < len(_KEYS) else "")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode")


def _policy_row(parent: ET.Element, policy: Policy, keys: str) -> None:
    row = ET.SubElement(parent, "View", className="gs-policy")
    ET.SubElement(row, "Header", value=f"{policy.id} · {policy.name}", size="5")
    ET.SubElement(row, "Header", value=policy.preamble, size="6")
    for rule in policy.rules:
        ET.SubElement(row, "Header", value=f"{rule.id}. {rule.text}", size="6")
    control = verdict_control(policy.id)
    verdict = ET.SubElement(
        row, "Choices", name=control, toName=IMAGE, choice="single-radio", required="true", showInline="true",
        requiredMessage=f"{policy.id}: choose safe, unsafe or unsure.",
    )  # fmt: skip
    for value, key in zip(("safe", "unsafe", "unsure"), keys or (None, None, None), strict=True):
        ET.SubElement(verdict, "Choice", {"value": value} | ({"hotkey": key} if key else {}))
    if not policy.rules:
        return
    shown = {"visibleWhen": "choice-selected", "whenTagName": control, "whenChoiceValue": "unsafe"}
    rules = ET.SubElement(
        row, "Choices", name=rules_control(policy.id), toName=IMAGE, choice="multiple", required="true",
        showInline="true", requiredMessage=f"{policy.id}: choose the rules that the image breaks.", attrib=shown,
    )  # fmt: skip
    for rule in policy.rules:
        ET.SubElement(rules, "Choice", value=rule.id, alias=f"{policy.id}.{rule.id}", hint=rule.text)


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
