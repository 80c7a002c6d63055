import base64
import dataclasses
import hashlib
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from guard.contract.features import VIEWS
from guard.export import summary
from guard.export.dataset import Dataset
from guard.export.finish import Finish
from guard.export.prepare import Prepared
from guard.export.probe import Auc, Probe
from guard.export.report import render_report
from guard.export.settings import GuardSettings, RlSettings
from guard.export.thumbnails import outline, thumbnail
from guard.export.views import plan
from guard.export.write import report
from storage.records.editing import DerivedPair
from storage.records.recaption import CaptionDelta, Span
from storage.records.rejection import Rejection
from storage.workspace import Workspace

HOSTILE = "<script>alert('x')</script>"
ABOUT: dict[str, Any] = {"name": "demo", "version": "v1", "seed": 0, "test_ratio": 0.3, "max_report_pairs": 40}

PROBE = Probe(Auc(0.71, 0.62, 0.8, 24, 12), Auc(0.93, 0.9, 0.96, 20, 12), None)


@pytest.fixture
def render(workspace: Workspace) -> Callable[..., str]:
    def run(data: Dataset, **about: Any) -> str:
        rows = plan(data, VIEWS, lambda _: "train", RlSettings(), 0)
        made = Prepared(data, rows, summary.view_counts(data, rows), {"nothing": 0}, (), 0)
        return render_report(made, workspace.blobs, about={**ABOUT, **about}, finish=Finish(None, PROBE, ()))

    return run


def test_it_is_self_contained(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    text = re.sub(r"base64,[^\"]*|sha256-[^']*", "", page)  # what is encoded may hold any letters
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    anchors = set(re.findall(r'href="#(\w+)"', page))
    assert {"stages", "pairs", "disputed", "policies"} <= anchors <= set(re.findall(r'id="(\w+)"', page))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_hostile_text_is_escaped(dataset: Dataset, render: Callable[..., str]) -> None:
    first = dataclasses.replace(
        dataset.recaptions[0],
        caption=f"A room {HOSTILE}",
        text=f"A {HOSTILE} room",
        inserted=(Span(1, 6, HOSTILE, ()),),
    )
    policy = dataset.policies[0].model_copy(update={"name": HOSTILE})
    page = render(
        dataclasses.replace(
            dataset,
            recaptions=(first, *dataset.recaptions[1:]),
            policies=dataclasses.replace(dataset.policies, policies=(policy, *dataset.policies[1:])),
        )
    )
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert" in page
    assert "<mark>&lt;script" in page


def test_inserted_and_deleted_words_are_marked(dataset: Dataset, render: Callable[..., str]) -> None:
    assert "A room with a yellow lamp <mark>and a knife</mark> above a wooden floor." in render(dataset)
    # Words and punctuation marks count: A(0) room(1) ,(2) bright(3).
    swapped = dataclasses.replace(
        dataset.recaptions[0], caption="A room, bright", deleted=(Span(2, 4, ", bright", ()),)
    )
    assert "A room<del>, bright</del>" in render(dataclasses.replace(dataset, recaptions=(swapped,)))
    outside = dataclasses.replace(swapped, deleted=(Span(9, 12, "gone", ()),))
    assert "A room, bright</p>" in render(dataclasses.replace(dataset, recaptions=(outside,)))


def test_a_caption_that_lacked_nothing_is_shown_once(dataset: Dataset, render: Callable[..., str]) -> None:
    same = tuple(dataclasses.replace(r, text=r.caption, inserted=(), attributes=()) for r in dataset.recaptions)
    page = render(dataclasses.replace(dataset, recaptions=same))
    assert page.count("Nothing was missing in it.") == page.count(dataset.recaptions[0].caption) == len(same)


def test_every_image_that_may_be_unsafe_is_veiled(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    plain = re.findall(r'<span class="frame">\s*<img [^>]*alt="([^"]*)"', page)
    assert plain
    assert all("edited" in alt for alt in plain)
    buttons = re.findall(r'<button class="veil frame" type="button" aria-pressed="(\w+)"', page)
    assert len(buttons) == 2 * len(dataset.pairs) + 1  # each original, in its card and in the matrix; one in dispute
    assert set(buttons) == {"false"}
    without_labels = render(dataclasses.replace(dataset, labels=()))
    assert '<span class="frame">' not in without_labels


def test_simulated_is_said_and_only_when_it_is_so(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    for section in ("Label matrix", "Agreement", "Verdicts"):
        assert re.search(rf'{section} <em class="sim">simulated</em>', page)
    people = tuple(dataclasses.replace(x, simulated=False) for x in dataset.labels)
    assert "simulated" not in re.sub(r"<style>.*?</style>", "", render(dataclasses.replace(dataset, labels=people)))
    mixed = (dataset.labels[0], *people[1:])
    page = render(dataclasses.replace(dataset, labels=mixed))
    assert page.count('<td><span class="pill safe">safe</span> <em class="sim">simulated</em></td>') == 1


def test_what_is_lost_and_what_is_disputed_is_shown(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    assert "ingest, quarantined: 1" in page
    assert "Disputed images" in page
    # Under L2 one of two voted against the other; the image has two votes under each of five policies: 1 of 10.
    (share,) = re.findall(r'<td class="n">(\d+)\u00a0%</td><td>L2</td>', page)
    assert share == "10"
    agreed = tuple(dataclasses.replace(x, votes_safe=2, votes_unsafe=0) for x in dataset.labels)
    assert "Disputed images" not in render(dataclasses.replace(dataset, labels=agreed))


def test_the_largest_families_are_shown(dataset: Dataset, render: Callable[..., str]) -> None:
    assert "Largest families" not in render(dataset)
    first, second, *_ = (i for i in dataset.sorted_images() if i.role == "original")
    joined = {
        name: dataclasses.replace(image, family_id=first.family_id) if image.original_id == second.image_id else image
        for name, image in dataset.images.items()
    }
    page = render(dataclasses.replace(dataset, images=joined))
    (section,) = re.findall(r'<section id="families">.*?</section>', page, re.DOTALL)
    assert re.findall(r'<td class="n">(\d+)</td>', section) == ["2"]
    assert section.count("<img") == 2


def test_the_first_screen_answers_a_reviewers_questions(
    build: Callable[..., Dataset], render: Callable[..., str]
) -> None:
    data = build(families=12)
    tried = (*data.pairs, dataclasses.replace(data.pairs[0], edit_id="x", verdict="rejected", reasons=("unchanged",)))
    turned = [DerivedPair("L2", "unsafe", "safe", ("L2.R1",), ())]
    pairs = tuple(dataclasses.replace(e, derived=turned) for e in data.pairs)
    # `select` refuses the image whose only edit was refused: that is counted once
    refused = {**data.rejections, "select": (Rejection(data.pairs[0].image_id, "unchanged", "", "{}"),)}
    page = render(dataclasses.replace(data, candidates=tried, pairs=pairs, rejections=refused))
    (screen,) = re.findall(r'<dl class="figures answers">.*?</dl>', page, re.DOTALL)
    assert re.findall("<dt>(.*?)</dt>", screen) == [
        "How many pairs?",
        "How sure are their labels?",
        "Who agreed?",
        "What was refused, and why?",
        "What is a shortcut worth?",
        "What can be trained on?",
    ]
    text = re.sub(r"<[^>]*>", " ", screen).replace("\u00a0", " ")
    assert re.search(r"Accepted of 13 tried edits: 92.3 % \([\d.]+ % to [\d.]+ %\)", text)  # 12 of 13
    # 12 families of two images under five policies, two votes each, but for the gap; one of 119 items is a conflict
    assert re.search(
        r"Who agreed\?\s+99.2 %\s+of the votes on 119 items agree .*?95 % interval: [\d.]+ % to [\d.]+ %",
        text,
        re.DOTALL,
    )
    assert "Where no draft was shown" not in text
    drafted = frozenset(i for i, image in data.images.items() if image.original_id == data.labels[0].image_id)
    assert "Where no draft was shown: 99." in render(dataclasses.replace(data, prefilled=drafted))
    assert "1 blocked hash" in text
    assert "1 unchanged" in text
    assert "95 % interval: 0.62 to 0.80" in text
    assert page.index('class="figures answers"') < page.index('id="pairs"') < page.index('id="stages"')


def test_every_plot_says_its_unit(build: Callable[..., Dataset], render: Callable[..., str]) -> None:
    data = build(families=12)
    page = render(dataclasses.replace(data, candidates=data.pairs))
    drawn = re.findall(r'<svg [^>]*class="plot".*?</svg>', page, re.DOTALL)
    assert len(drawn) == 5  # stages, yields, agreement, shortcut, verdicts that train
    for plot in drawn:
        assert re.search(r">rows<|95 % interval over families", plot)


def test_work_is_shown_where_it_is_known(dataset: Dataset, workspace: Workspace) -> None:
    projects = [{"kind": "verdicts", "items": 8, "done": 6, "answers": 13}]
    bill = {"accepted_pairs": 4, "total": 0.9, "lost": 0.1, "per_accepted_pair": 0.25}
    page = report(
        dataset,
        workspace.blobs,
        GuardSettings(crops=False),
        {"projects": projects, "minutes": 3.0, "cost": {**bill, "work_seconds_per_accepted_pair": 2.5}},
    )
    assert "75\u00a0%" in page  # 6 of 8
    assert "0.2500" in page  # (0.9 + 0.1) / 4
    assert "Work so far" not in report(
        dataset, workspace.blobs, GuardSettings(crops=False), {"projects": [], "minutes": 3.0, "cost": None}
    )


def test_pairs_are_capped_and_it_says_so(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset, max_report_pairs=2)
    assert page.count("<article") == 2
    assert "2 of 6 pairs are drawn" in page
    assert "4 of 12 labelled images are listed" in page
    assert "pairs are drawn" not in render(dataset)


def test_blocked_rows_are_counted_and_not_named(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    assert "<code>blocked_hash</code>" in page
    assert "withheld" in page
    assert "f" * 12 not in page


def test_it_is_the_same_each_time(dataset: Dataset, render: Callable[..., str]) -> None:
    assert render(dataset) == render(dataset)


def test_an_empty_dataset_still_has_a_report(dataset: Dataset, render: Callable[..., str]) -> None:
    empty = dataclasses.replace(
        dataset, images={}, pairs=(), recaptions=(), labels=(), agreement=(), stages=(), rejections={}
    )
    page = render(empty)
    assert "There are no accepted pairs." in page
    assert "Nothing was refused." in page


def encoded(image: Pillow.Image, codec: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image.save(sink, format=codec)
    return sink.getvalue()


def test_a_thumbnail_keeps_its_shape_and_never_grows() -> None:
    big = thumbnail(encoded(Pillow.new("RGB", (1000, 500))), "x", 400)
    assert (big.width, big.height) == (400, 200)
    small = thumbnail(encoded(Pillow.new("RGB", (30, 20))), "x", 400)
    assert (small.width, small.height) == (30, 20)
    assert big.uri.startswith("data:image/jpeg;base64,")


def test_an_outline_runs_along_the_mask() -> None:
    mask = Pillow.new("1", (100, 50))
    ImageDraw.Draw(mask).rectangle((20, 10, 59, 29), fill=1)  # x 20 to 60, y 10 to 30, ends exclusive
    path = outline(encoded(mask), "x", 100, 50)
    points = [tuple(map(float, p.split())) for p in path.strip("MZ").split("L")]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    assert (min(xs), max(xs), min(ys), max(ys)) == pytest.approx((20, 60, 10, 30), abs=0.6)
    assert outline(encoded(Pillow.new("1", (10, 10))), "x", 10, 10) == ""
    whole = outline(encoded(Pillow.new("1", (10, 10), 1)), "x", 10, 10)
    assert whole.count("M") == whole.count("Z") == 1


def test_the_probe_is_shown_with_its_interval_and_warns(dataset: Dataset, render: Callable[..., str]) -> None:
    page = render(dataset)
    assert "0.71" in page
    assert "0.62 to 0.80" in page
    assert "can be told apart by traces of editing" in page
    assert "too few images of both kinds" in page


def test_captions_of_a_pair_stand_beside_its_certificate(dataset: Dataset, render: Callable[..., str]) -> None:
    first, second = dataset.pairs[:2]
    same = CaptionDelta(first.edit_id, ("blade",), (), ("blade",), (), (), 0.9, "agrees", ())
    still = dataclasses.replace(same, edit_id=second.edit_id, verdict="disagrees", reasons=("still_said",))
    page = render(dataclasses.replace(dataset, deltas={d.edit_id: d for d in (same, still)}))
    assert "differ by what was removed" in page
    assert "contradict the edit: still said" in page
    assert "1 differ by just what was removed; 1 contradict the edit (1 still said)" in page
    assert "Captions of both sides" not in render(dataset)


def test_flips_that_the_rules_predict_stand_beside_those_people_saw(dataset: Dataset) -> None:
    policy = dataset.policies[0].id
    derived = (DerivedPair(policy, "unsafe", "safe", ("R1",), ()),)
    pairs = (dataclasses.replace(dataset.pairs[0], derived=derived), *dataset.pairs[1:])
    before, after = (summary.flips(data) for data in (dataset, dataclasses.replace(dataset, pairs=pairs)))
    assert (before[policy]["predicted"], after[policy]["predicted"]) == (0, 1)
    assert before[policy]["turned_safe"] == after[policy]["turned_safe"]
    # A pair without a verdict on one side is neither judged nor predicted: both counts speak of the same pairs.
    lost = tuple(x for x in dataset.labels if (x.image_id, x.policy_id) != (pairs[0].edited_id, policy))
    without = summary.flips(dataclasses.replace(dataset, pairs=pairs, labels=lost))[policy]
    assert (without["judged"], without["predicted"]) == (before[policy]["judged"] - 1, 0)
