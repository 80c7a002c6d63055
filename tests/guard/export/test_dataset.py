import dataclasses

import pytest

from guard.export.dataset import Dataset, Records, assemble, exportable_part
from storage.errors import FatalError
from storage.records.annotation import Label
from storage.records.editing import Edit
from storage.records.images import Image


def originals(dataset: Dataset) -> list[Image]:
    """The images behind a dataset's originals, as storage records."""
    return [
        Image(i.image_id, i.blob, i.family_id, "", i.width, i.height, "JPEG", "0" * 16, i.licence, i.exportable, "{}")
        for i in dataset.images.values()
        if i.role == "original"
    ]


def again(dataset: Dataset, edits: list[Edit] | None = None, labels: list[Label] | None = None) -> Dataset:
    return assemble(
        Records(
            originals(dataset),
            list(dataset.pairs) if edits is None else edits,
            dataset.recaptions,
            list(dataset.labels) if labels is None else labels,
            dataset.policies,
        )
    )


def test_the_order_of_the_input_does_not_matter(dataset: Dataset) -> None:
    forth = again(dataset)
    back = again(dataset, list(dataset.pairs)[::-1], list(dataset.labels)[::-1])
    assert forth == back


def test_a_twin_inherits_family_licence_and_permission(dataset: Dataset) -> None:
    for edit in dataset.pairs:
        before, after = dataset.images[edit.image_id], dataset.images[edit.edited_id]
        assert (before.role, after.role) == ("original", "edited")
        assert before.stem == after.stem == edit.image_id[:16]
        assert after.file_name == f"{before.stem}_edited.png"
        assert (after.family_id, after.licence, after.exportable) == (
            before.family_id,
            before.licence,
            before.exportable,
        )


def test_only_accepted_edits_and_captions_are_used(dataset: Dataset) -> None:
    refused = [dataclasses.replace(dataset.pairs[0], verdict="rejected"), *dataset.pairs[1:]]
    assert len(again(dataset, refused).pairs) == len(dataset.pairs) - 1
    captions = [dataclasses.replace(r, verdict="rejected") for r in dataset.recaptions]
    assert assemble(Records(originals(dataset), [], captions, [], dataset.policies)).recaptions == ()


def test_controls_are_named_by_their_kind(dataset: Dataset) -> None:
    edit = dataset.pairs[0]
    sham = dataclasses.replace(edit, kind="sham", edited_id="a" * 64, edit_id="b" * 64)
    both = again(dataset, [sham, *dataset.pairs])
    assert both.images["a" * 64].file_name == f"{edit.image_id[:16]}_sham.png"
    assert [e.kind for e in both.pairs if e.image_id == edit.image_id] == ["remove", "sham"]


def test_records_about_what_is_gone_are_counted(dataset: Dataset) -> None:
    foreign = dataclasses.replace(dataset.labels[0], image_id="0" * 64)
    unknown_policy = dataclasses.replace(dataset.labels[0], policy_id="L99")
    orphan = dataclasses.replace(dataset.pairs[0], image_id="0" * 64)
    twin_is_an_original = dataclasses.replace(dataset.pairs[1], edited_id=dataset.pairs[2].image_id)
    found = again(
        dataset,
        [orphan, twin_is_an_original, *dataset.pairs[2:]],
        [*dataset.labels, foreign, unknown_policy],
    )
    # Besides the two foreign labels, the five of each of the two twins that are gone.
    assert found.dropped == {
        "edit_equals_another_image": 1,
        "edit_without_original": 1,
        "label_without_image_or_policy": 12,
    }


def test_ambiguity_stops(dataset: Dataset) -> None:
    twice = dataclasses.replace(dataset.pairs[0], edited_id="a" * 64)
    with pytest.raises(FatalError, match="select one of them"):
        again(dataset, [twice, *dataset.pairs])
    with pytest.raises(FatalError, match="several labels"):
        again(dataset, None, [dataset.labels[0], *dataset.labels])


def test_the_exportable_part_holds_no_trace_of_the_rest(dataset: Dataset) -> None:
    part, n = exportable_part(dataset)
    gone = {i for i in dataset.images if i not in part.images}
    assert n == len(gone) == 2
    assert not gone & {e.edited_id for e in part.pairs}
    assert not gone & {r.image_id for r in part.recaptions}
    assert not gone & {x.image_id for x in part.labels}
