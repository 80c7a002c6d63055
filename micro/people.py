"""How scripted annotators err: they look, judge what they saw by the policy, tire, and lean towards a draft.

The figures are assumptions of a plausible size, not measurements of anybody. What each effect rests on:

- a rate of its own for each side of a question: A. P. Dawid & A. M. Skene, Applied Statistics 28 (1979);
- items that all people tend to get wrong, and errors that people share, which that model does not have: J. Whitehill
  et al., "Whose vote should count more", NIPS 2009 (an item's difficulty);
- error rates that grow with the time on a task: N. H. Mackworth, "The breakdown of vigilance during prolonged visual
  search", Quarterly Journal of Experimental Psychology 1 (1948);
- answers drawn towards a draft: Y. Berzak et al., "Anchoring and agreement in syntactic annotations", EMNLP 2016;
- less time with a draft: K. Fort & B. Sagot, "Influence of pre-annotation on POS-tagged corpus development", LAW 2010.

Every draw follows from the seed and ids, so equal arguments give equal answers in any order.
"""

import hashlib
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from annotation.attribute_page import questions
from annotation.verdicts import PolicyVerdict
from policies.engine import Derivation, Policy, PolicySet
from policies.evidence import Evidence
from policies.vocabulary import Vocabulary
from storage.records.annotation import Vote
from storage.records.ids import content_id
from storage.records.verdicts import Verdict

_UNSURE_SHARE = 0.25  # of the errors: said as a doubt; the others are plain wrong
_IMAGES_PER_SITTING = 100
_MEDIAN_S, _SPREAD = 12.0, 0.4  # of the time for an image: log-normal


@dataclass(frozen=True)
class People:
    """Probabilities (0..1) of what goes wrong, the same for everybody.

    `miss`: a thing is overlooked; `invent`: an attribute that is not there is seen; `misjudge`: a policy is read
    wrongly, `by_policy` where one differs. A share `hard` of the things in images is missed with `hard_miss` by
    everybody. A share `shared` of the draws on what is seen is common to all. Error rates grow by the factor
    `1 + fatigue` over a sitting of 100 images. Where a draft differs from the own answer, it stands with `anchoring`;
    a page with a draft takes `saving` less time.
    """

    miss: float = 0.03
    invent: float = 0.002
    misjudge: float = 0.03
    by_policy: Mapping[str, float] = field(default_factory=dict)
    hard: float = 0.03
    hard_miss: float = 0.8
    shared: float = 0.3
    fatigue: float = 0.5
    anchoring: float = 0.5
    saving: float = 0.3
    seed: int = 0

    def tired(self, position: int) -> float:
        """By how much error rates have grown at the image of this number (from 0) of a person's work."""
        return 1 + self.fatigue * (position % _IMAGES_PER_SITTING) / _IMAGES_PER_SITTING


FLAWLESS = People(miss=0, invent=0, misjudge=0, hard=0, anchoring=0)


@dataclass(frozen=True, slots=True)
class Look:
    """Who looks at which image, on what page, as which one of a person's work."""

    who: str
    image_id: str
    page: str
    position: int = 0


def see(people: People, vocabulary: Vocabulary, truth: Collection[str], look: Look) -> Evidence:
    """What a person sees of the attributes really visible, `truth`; doubts are unknown."""
    seen, doubted = [], []
    for name in vocabulary:
        there, where = name in truth, (look.image_id, name)
        is_hard = there and _share(people, "hard", *where) < people.hard
        rate = people.hard_miss if is_hard else people.miss if there else people.invent
        own = (*where, look.who, look.page)
        drawn = where if _share(people, "alike", *own) < people.shared else own
        wrong = _share(people, "see", *drawn) < min(1.0, rate * people.tired(look.position))
        if wrong and _share(people, "doubt", *own) < _UNSURE_SHARE:
            doubted.append(name)
        elif wrong != there:
            seen.append(name)
    return Evidence.named(vocabulary, seen, doubted)


def judge(
    people: People, policies: PolicySet, seen: Evidence, look: Look, draft: Mapping[str, PolicyVerdict] | None = None
) -> list[PolicyVerdict]:
    """A person's verdict under each policy, on a page with that draft if there is one."""
    answers = []
    for policy in policies:
        rate = people.by_policy.get(policy.id, people.misjudge) * people.tired(look.position)
        draw = _draw(people, "judge", look.image_id, policy.id, look.who)
        said = answer(policies.derive(policy, seen), policy, 1 - min(1.0, rate), draw)
        drafted = (draft or {}).get(policy.id)
        answers.append(drafted if drafted and draw.random() < people.anchoring else said)
    return answers


def answer(right: Derivation, policy: Policy, accuracy: float, draw: random.Random) -> PolicyVerdict:
    """What a scripted annotator says under a policy: the `right` verdict, or with probability 1 - accuracy another one.

    An error is sometimes "unsure", otherwise the opposite verdict with one rule at random. Where no rule
    could be named, and where the rules leave the verdict open, the answer is "unsure".
    """
    correct, hesitates, rule = draw.random() < accuracy, draw.random() < _UNSURE_SHARE, draw.random()
    if right.verdict == "undetermined":
        return PolicyVerdict(policy.id, "unsure")
    if correct:
        return PolicyVerdict(policy.id, right.verdict, right.rules)
    if hesitates or (right.verdict == "safe" and not policy.rules):
        return PolicyVerdict(policy.id, "unsure")
    if right.verdict == "unsafe":
        return PolicyVerdict(policy.id, "safe")
    rule_ids = policy.rule_ids()
    return PolicyVerdict(policy.id, "unsafe", (rule_ids[int(rule * len(rule_ids))],))


def duration_s(people: People, look: Look, *, drafted: bool) -> float:
    """How long a person takes for a page."""
    draw = _draw(people, "time", look.image_id, look.who, look.page)
    return round(_MEDIAN_S * draw.lognormvariate(0, _SPREAD) * (1 - people.saving * drafted), 1)


def _share(people: People, *what: str) -> float:
    """A number from 0 to 1 that is as good as drawn evenly."""
    digest = hashlib.sha256("\n".join((str(people.seed), *what)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _draw(people: People, *what: str) -> random.Random:
    return random.Random(content_id("people", people.seed, *what))


def opinions(
    people: People, policies: PolicySet, truth: Mapping[str, Collection[str]], names: Sequence[str]
) -> tuple[list[Vote], list[Vote]]:
    """What each of these people says of every image, without the way through Label Studio: votes under the policies, on
    pages without a draft, and votes on attributes (annotation/attribute_page.py says how they are written)."""
    verdicts, attributes = [], []
    hashes = {policy.id: policy.content_hash for policy in policies}
    asked = {one.id: one.content_hash for one in questions(policies.vocabulary)}
    for who in names:
        for position, image_id in enumerate(sorted(truth)):
            look = Look(who, image_id, "verdict", position)
            said = judge(people, policies, see(people, policies.vocabulary, truth[image_id], look), look)
            verdicts += [_vote(look, a.policy_id, a.verdict, hashes[a.policy_id], a.rules) for a in said]
            look = Look(who, image_id, "attributes", position)
            seen = see(people, policies.vocabulary, truth[image_id], look)
            for name, its_hash in asked.items():
                verdict: Verdict = "unsafe" if name in seen.things else "unsure" if name in seen.unknown else "safe"
                attributes.append(_vote(look, name, verdict, its_hash))
    return verdicts, attributes


def _vote(look: Look, name: str, verdict: Verdict, its_hash: str, rules: tuple[str, ...] = ()) -> Vote:
    return Vote(
        look.image_id, name, verdict, rules, look.who, True, 0.0, "", 0, 0, 0, "2026-01-01T00:00:00Z",
        policy_hash=its_hash,
    )  # fmt: skip
