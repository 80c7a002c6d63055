"""The page on which people confirm what is visible, and what its answers mean.

One image, blurred until the annotator shows it, and every attribute of the vocabulary twice: what is visible, and what
cannot be told. What is ticked in neither list is not there. The list comes with the task, so that what a model
believes to see stands first, ticked by nobody and marked by nothing.

An attribute is asked like a policy with the one rule that forbids it, so its answers are Votes: `unsafe` says that the
attribute is visible, `safe` that it is not, `unsure` that it cannot be told. `policy_id` is the attribute's id.
"""

import html
import xml.etree.ElementTree as ET
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from annotation.config import IMAGE, image_page, page_xml, wellbeing_html
from annotation.projects import Asked
from annotation.verdicts import AskedPolicy, PolicyVerdict, choices_by_control
from policies.engine import PolicySet
from policies.vocabulary import Attribute, Vocabulary
from storage.errors import SampleError
from storage.records.ids import content_id
from storage.records.verdicts import Verdict

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface

VISIBLE, UNSURE, LOOKED = "visible", "unsure", "looked"
CHOICES = "attributes"  # the field of a task that holds its list
_DONE = "done"
_SAYS: Mapping[str, str] = {
    VISIBLE: "Visible in the image: tick everything that you see",
    UNSURE: "Cannot be told: tick what may be there",
}


def questions(vocabulary: Vocabulary) -> list[Asked]:
    """The attributes as a project asks them, in the vocabulary's order; a question is its id and the noun shown."""
    return [Asked(a.id, content_id("attribute", a.id, a.noun)) for a in vocabulary.values()]


def attribute_config() -> str:
    """The page as XML, the same for every vocabulary."""
    root, right = image_page()
    for name, says in _SAYS.items():
        row = ET.SubElement(right, "View", className="gs-policy")
        ET.SubElement(row, "Header", value=says, size="5")
        ET.SubElement(
            row, "Choices", name=name, toName=IMAGE, choice="multiple", value=f"${CHOICES}", layout="inline",
            required="false",
        )  # fmt: skip
    row = ET.SubElement(right, "View", className="gs-policy")
    looked = ET.SubElement(
        row, "Choices", name=LOOKED, toName=IMAGE, choice="multiple", required="true", showInline="true",
        requiredMessage="Tick that you looked for everything in the list.",
    )  # fmt: skip
    says = "I looked for everything in the list; what is ticked nowhere is not there"
    ET.SubElement(looked, "Choice", value=says, alias=_DONE, hotkey="0")
    return page_xml(root)


def choices(attributes: Sequence[Attribute], proposed: Collection[str]) -> list[dict[str, str]]:
    """A task's list: what a model proposes first, each part in the order given."""
    ordered = sorted(attributes, key=lambda attribute: attribute.id not in proposed)
    return [{"value": attribute.noun, "alias": attribute.id} for attribute in ordered]


def attribute_instruction(policies: PolicySet) -> str:
    """What annotators read before they begin."""
    nouns = html.escape(", ".join(a.noun for a in policies.vocabulary.values()))
    return (
        "<h3>What is in the picture?</h3><p>Tick everything of the list that you see, whatever you think of it. Tick "
        "it in the second list when you cannot tell. What you tick nowhere counts as not there, so go through the "
        "whole list. A program's guesses stand first; some are wrong, and it misses things.</p>"
        f"<p>The list: {nouns}.</p>" + wellbeing_html(policies)
    )


def attribute_answers(
    result: Any, asked: Sequence[AskedPolicy], interface: "LabelInterface"
) -> tuple[list[PolicyVerdict], str]:
    """One answer per attribute asked, in their order, and the comment.

    Raises SampleError: `malformed_result`, `not_in_config` for an attribute that was not asked, `missing_answer` when
    the list was not gone through, `several_verdicts` for an attribute that is both visible and in doubt.
    """
    given = choices_by_control(result, interface)
    visible, unsure = set(given.get(VISIBLE, ())), set(given.get(UNSURE, ()))
    foreign = sorted((visible | unsure) - {one.id for one in asked})
    if foreign:
        raise SampleError("not_in_config", f"{foreign[0]!r} was not asked")
    if not given.get(LOOKED):
        raise SampleError("missing_answer", "did not say that the list was gone through")
    if both := sorted(visible & unsure):
        raise SampleError("several_verdicts", f"{both[0]} is ticked in both lists")

    def said(name: str) -> Verdict:
        return "unsafe" if name in visible else "unsure" if name in unsure else "safe"

    return [PolicyVerdict(one.id, said(one.id)) for one in asked], " ".join(given.get("comment", ()))


def to_attribute_result(visible: Collection[str], unsure: Collection[str] = ()) -> list[dict[str, Any]]:
    """The regions that the page would send for these answers."""
    ticked = ((VISIBLE, sorted(visible)), (UNSURE, sorted(unsure)), (LOOKED, [_DONE]))
    return [
        {"from_name": name, "to_name": IMAGE, "type": "choices", "value": {"choices": some}}
        for name, some in ticked
        if some
    ]
