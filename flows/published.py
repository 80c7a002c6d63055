"""Labels that a data set publishes, in the place of votes: a verdict on the build's image of the same bytes."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import Field

from flows.outcome import Outcome
from guard.evaluation.benchmarks.reading import read_benchmark
from guard.evaluation.benchmarks.rows import is_known
from guard.evaluation.tally import EvalRow
from guard.export.dataset import Records
from policies.engine import Policy, PolicySet
from policies.vocabulary import Vocabulary
from storage.errors import FatalError
from storage.parquet import readable
from storage.records.annotation import Label
from storage.records.verdicts import LabelStatus

Tell = Callable[[str], None]


class PublishedPolicy(Policy):
    """A policy word for word as a set has it. It has no rules that a program could read, so no verdict follows."""

    words: str = Field(min_length=1)

    @property
    def text(self) -> str:
        return self.words


def published_records(outcome: Outcome, vocabulary: Vocabulary, places: Sequence[str], tell: Tell) -> Records:
    """The images and captions of a build with the labels of Parquet files, or of folders of them.

    Files without labels are passed over and named; a row whose image the build does not have is counted. Raises
    FatalError for a row that is not of its set's form, and when no label is left.
    """
    known = {image.image_id for image in outcome.images}
    rows = [row for file in _files(places, tell) for row, _ in read_benchmark(str(file))]
    used = [row for row in rows if row.blob in known]
    if not used:
        raise FatalError(
            f"None of {len(rows)} labels is about an image of the build. Build from the same files: their bytes count."
        )
    tell(f"Labels of {', '.join(places)}: {len(used)} rows; {len(rows) - len(used)} of images that the build lacks.")
    policies = _policies(used)
    return Records(
        images=outcome.images,
        edits=(),  # nobody has labelled them
        recaptions=outcome.recaptions,
        labels=_labels(used, policies),
        policies=PolicySet(vocabulary, tuple(sorted(policies.values(), key=lambda policy: policy.id))),
        rejections=outcome.rejections,
        attributes=outcome.attributes,
    )


def _files(places: Sequence[str], tell: Tell) -> Iterator[Path]:
    for place in places:
        root = Path(place)
        found = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
        if not found:
            raise FatalError(f"{place} holds no Parquet file, so no labels. Name the folder of a set's train split.")
        for file in found:
            with readable(str(file)):
                labelled = is_known(pq.read_schema(file))
            if labelled:
                yield file
            else:
                tell(f"{file} has no labels of a form known here; only its pictures are used.")


def _policies(rows: Sequence[EvalRow]) -> dict[str, PublishedPolicy]:
    """A policy for each text, named as its rows name it; a further text of that name gets a number."""
    seen: Counter[str] = Counter()
    found: dict[str, PublishedPolicy] = {}
    for row in rows:
        if row.policy not in found:
            name = re.sub(r"[^A-Za-z0-9]", "", row.policy_name.removeprefix("Policy ")) or "Policy"
            name = name[0].upper() + name[1:] if name[0].isalpha() else f"P{name}"
            seen[name] += 1
            policy_id = name if seen[name] == 1 else f"{name}v{seen[name]}"
            found[row.policy] = PublishedPolicy(
                id=policy_id, name=row.policy_name, setting="", preamble="", closed=False, rules=(), words=row.policy
            )
    return found


def _labels(rows: Sequence[EvalRow], policies: dict[str, PublishedPolicy]) -> Iterator[Label]:
    """A label for each image and policy; rows that contradict each other leave a conflict."""
    cells: dict[tuple[str, str], list[EvalRow]] = defaultdict(list)
    for row in rows:
        cells[row.blob, policies[row.policy].id].append(row)
    for (image_id, policy_id), cell in cells.items():
        first, counts = cell[0], Counter(row.label for row in cell)
        status: LabelStatus = "agreed" if len(counts) == 1 else "conflict"
        yield Label(
            image_id=image_id,
            policy_id=policy_id,
            verdict=first.label if status == "agreed" else None,
            status=status,
            rules=tuple(f"{policy_id}.{rule}" for rule in first.rules) if status == "agreed" else (),
            votes_safe=counts["safe"],
            votes_unsafe=counts["unsafe"],
            votes_unsure=0,
            derived="undetermined",
            derived_rules=(),
            rule_conflict=False,
            simulated=False,
        )
