"""A Label Studio result as verdicts, and the reverse.

The server accepts any choice and any control name, so everything that comes in is checked here, against the
labelling config and against the policies. Reasons for refusal:

malformed_result        not a list of regions with from_name and choices or text
not_in_config           a control or a choice that the labelling config does not have
missing_verdict         a policy without a verdict
several_verdicts        a policy with more than one
unknown_rule            a rule that no policy has
rule_of_another_policy  a rule given under the wrong policy
unsafe_without_rule     "unsafe" under a policy that has rules, none of them named
rules_without_unsafe    rules named although the verdict is not "unsafe"
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, get_args

from annotation.config import BOXES, COMMENT, IMAGE, rules_control, verdict_control
from storage.errors import SampleError
from storage.records.verdicts import Verdict

if TYPE_CHECKING:
    from label_studio_sdk.label_interface import LabelInterface

_VERDICTS = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """One person's answer under one policy. `rules` are full ids (`L2.R1`), sorted."""

    policy_id: str
    verdict: Verdict
    rules: tuple[str, ...] = ()


Box = tuple[int, ...]


class AskedPolicy(Protocol):
    """What of a policy decides whether an answer can be believed: a policy of today, or one as a project asked it."""

    @property
    def id(self) -> str: ...
    @property
    def content_hash(self) -> str: ...
    def rule_ids(self) -> tuple[str, ...]:
        """Full ids, such as `L2.R1`."""
        ...


def to_result(verdicts: Iterable[PolicyVerdict], comment: str = "") -> list[dict[str, Any]]:
    """The regions that Label Studio's own page would send for these answers."""
    regions = []
    for answer in verdicts:
        regions.append(_choices(verdict_control(answer.policy_id), [answer.verdict]))
        if answer.rules:
            regions.append(_choices(rules_control(answer.policy_id), list(answer.rules)))
    if comment:
        regions.append({"from_name": COMMENT, "to_name": IMAGE, "type": "textarea", "value": {"text": [comment]}})
    return regions


def _choices(control: str, chosen: list[str]) -> dict[str, Any]:
    return {"from_name": control, "to_name": IMAGE, "type": "choices", "value": {"choices": chosen}}


def from_result(
    result: Any, policies: Sequence[AskedPolicy], interface: "LabelInterface"
) -> tuple[list[PolicyVerdict], str]:
    """One answer per policy, in the policies' order, and the comment.

    Raises SampleError, with one of the codes above, unless all of it can be believed.
    """
    given = _by_control(result)
    answers = [_answer(policy, given, policies) for policy in policies]
    _check_regions(result, interface)
    return answers, " ".join(given.get(COMMENT, ()))


def choices_by_control(result: Any, interface: "LabelInterface") -> dict[str, list[str]]:
    """Every choice and text given, by the name of its control.

    Raises SampleError `malformed_result`, or `not_in_config` when the page has no such control or choice.
    """
    given = _by_control(result)
    _check_regions(result, interface)
    return given


def _check_regions(result: Sequence[Any], interface: "LabelInterface") -> None:
    for number, region in enumerate(result):
        problems = interface.validate_region(region, return_errors=True, region_index=number)
        if problems:
            raise SampleError("not_in_config", "; ".join(problems))


def boxes_of(result: Sequence[Mapping[str, Any]]) -> tuple[Box, ...]:
    """The boxes drawn, `(x0, y0, x1, y1)` in pixels of the image, sorted; the server gives percentages of its size.

    Raises SampleError `malformed_result` when a box lacks a number, is turned, or lies outside the image.
    """
    return tuple(sorted(_box(region) for region in result if region.get("from_name") == BOXES))


def _box(region: Mapping[str, Any]) -> Box:
    value = region.get("value", {})
    try:
        width, height = int(region["original_width"]), int(region["original_height"])
        left, top = float(value["x"]), float(value["y"])
        right, bottom = left + float(value["width"]), top + float(value["height"])
    except (KeyError, TypeError, ValueError) as error:
        raise SampleError("malformed_result", f"not a box: {region!r}"[:300]) from error
    slack = 0.5  # the page rounds
    if value.get("rotation") or not (-slack <= left < right <= 100 + slack and -slack <= top < bottom <= 100 + slack):
        raise SampleError("malformed_result", f"a box that is turned or outside the image: {value!r}"[:300])
    x0, y0 = max(0, round(left * width / 100)), max(0, round(top * height / 100))
    x1, y1 = min(width, round(right * width / 100)), min(height, round(bottom * height / 100))
    return (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _by_control(result: Any) -> dict[str, list[str]]:
    """Every value given, by the name of its control."""
    given: dict[str, list[str]] = {}
    if not isinstance(result, list):
        raise SampleError("malformed_result", "the result is not a list")
    for region in result:
        value = region.get("value") if isinstance(region, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(region.get("from_name"), str):
            raise SampleError("malformed_result", f"not a region: {region!r}"[:300])
        values = value.get("choices", value.get("text", []))
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise SampleError("malformed_result", f"not a list of strings: {values!r}"[:300])
        given.setdefault(region["from_name"], []).extend(values)
    return given


def _answer(policy: AskedPolicy, given: Mapping[str, Sequence[str]], policies: Sequence[AskedPolicy]) -> PolicyVerdict:
    verdicts = given.get(verdict_control(policy.id), ())
    rules = tuple(sorted(set(given.get(rules_control(policy.id), ()))))
    if not verdicts:
        raise SampleError("missing_verdict", policy.id)
    if len(verdicts) > 1:
        raise SampleError("several_verdicts", f"{policy.id}: {', '.join(verdicts)}")
    if verdicts[0] not in _VERDICTS:
        raise SampleError("not_in_config", f"{policy.id}: {verdicts[0]!r} is no verdict")
    for rule in rules:
        _check_rule(rule, policy, policies)
    if verdicts[0] == "unsafe" and policy.rule_ids() and not rules:
        raise SampleError("unsafe_without_rule", policy.id)
    if verdicts[0] != "unsafe" and rules:
        raise SampleError("rules_without_unsafe", f"{policy.id}: {verdicts[0]} with {', '.join(rules)}")
    return PolicyVerdict(policy.id, cast(Verdict, verdicts[0]), rules)


def _check_rule(rule: str, policy: AskedPolicy, policies: Sequence[AskedPolicy]) -> None:
    if rule in policy.rule_ids():
        return
    if any(rule in other.rule_ids() for other in policies):
        raise SampleError("rule_of_another_policy", f"{rule} under {policy.id}")
    raise SampleError("unknown_rule", f"{rule} under {policy.id}")
