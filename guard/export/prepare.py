"""From all records to the rows of an export: what may leave, whose family is whose, what leaks, which rows."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from guard.contract.prompt import IMAGE_TAG
from guard.contract.splits import Split, drawn_split
from guard.export import summary
from guard.export.dataset import Dataset, exportable_part, restricted
from guard.export.leaks import Leak, leaks, merged_families
from guard.export.png import decode
from guard.export.settings import GuardSettings
from guard.export.summary import ViewCounts
from guard.export.views import Plan, plan
from storage.errors import FatalError
from storage.parts import Look, look_at
from storage.workspace import Blobs


@dataclass(frozen=True)
class Prepared:
    """The part of a Dataset that is exported, its families joined, and the rows that it makes."""

    data: Dataset
    plan: Plan
    views: ViewCounts
    left_out: Mapping[str, int]
    leaks: tuple[Leak, ...]
    joined: int  # families that were joined to another one
    kept_from_test: int = 0  # families that were drawn for test and train all the same: see `prepare`


def prepare(dataset: Dataset, blobs: Blobs, settings: GuardSettings) -> Prepared:
    """Decide everything about an export but its bytes.

    A family of which people saw an image with the rules' verdicts filled in never tests, whatever was drawn: such
    verdicts lean towards the rules. Publishing fills in where the draw says train, but here families may have been
    joined, and the ratio or the seed may be others by now. Nor does one that has an image in common with another
    family: a crop of each, say.

    Reads every image once when crops or other benchmarks are searched. Raises FatalError for a policy that trainers
    would misread, for wordings that do not exist, and when a blob is missing or broken.
    """
    part, not_exportable = exportable_part(dataset)
    check_policies(part, settings)
    looks = dict(_looks(part, blobs, settings))
    found = (
        leaks(part.sorted_images(), looks, settings.other_benchmarks, settings.max_distance)
        if settings.other_benchmarks
        else []
    )
    searched = {i: look for i, look in looks.items() if settings.crops and part.images[i].role == "original"}
    families, alike = merged_families(part.sorted_images(), searched, blobs.get, settings.max_distance)
    before = {image.family_id for image in part.images.values()}
    leaked = {families[leak.image_id] for leak in found}
    kept = {
        image_id: dataclasses.replace(image, family_id=families[image_id])
        for image_id, image in part.images.items()
        if families[image_id] not in leaked
    }
    data = restricted(part, kept)
    drawn = functools.partial(drawn_split, test_ratio=settings.test_ratio, seed=settings.seed)
    anchored = {image.family_id for image in kept.values() if image.image_id in part.prefilled} | alike

    def split(family_id: str) -> Split:
        return "train" if family_id in anchored else drawn(family_id)

    rows = plan(data, settings.views, split, settings.rl, settings.seed)
    missing = {
        "images_not_exportable": not_exportable,
        "images_of_families_that_leak": len(part.images) - len(kept),
        **summary.left_out(data),
    }
    views = summary.view_counts(data, rows)
    joined = len(before) - len(set(families.values()))
    moved = sum(drawn(family) == "test" for family in {image.family_id for image in kept.values()} & anchored)
    return Prepared(data, rows, views, missing, tuple(found), joined, moved)


def check_policies(data: Dataset, settings: GuardSettings) -> None:
    """Raises FatalError for a text that trainers would misread, and for wordings that are asked for and not there."""
    for policy in data.policies:
        texts = data.policies.wordings.get(policy.id, ())
        if IMAGE_TAG in "".join([policy.text, *texts]):
            raise FatalError(f"Policy {policy.id} holds {IMAGE_TAG}, which trainers replace by the image. Reword it.")
        wanted = settings.rl.paraphrases
        if len(texts) < wanted:
            raise FatalError(
                f"export.rl.paraphrases asks for {wanted} wordings; policy {policy.id} has {len(texts)}. "
                f"Add some to paraphrases/{policy.id}.yaml in the policy folder, or ask for fewer."
            )


def _looks(data: Dataset, blobs: Blobs, settings: GuardSettings) -> Iterator[tuple[str, Look]]:
    """Of the images that are searched: originals for crops (an edit shows what its original shows), all for other
    benchmarks."""
    for image in data.sorted_images():
        if settings.other_benchmarks or (settings.crops and image.role == "original"):
            yield image.image_id, look_at(decode(blobs.get(image.blob), image.blob))
