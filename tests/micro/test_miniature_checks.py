"""Each manipulation check passes where the world has what its claim is about, and fails where it has not."""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as PilImage
from transformers import BatchFeature

from guard.evaluation.tally import SafetyLabel, Verdict
from guard.training.network import Network
from micro import GUARD
from micro.miniature.checks import (
    _ability,
    _auc,
    _caution,
    _cue,
    _falsehoods,
    _lean,
    _Pictures,
    _policies,
    _reward,
    _shortcut,
    _training_originals,
    _wider,
    manipulation_checks,
)
from micro.miniature.claims import CLAIMS, Check
from micro.miniature.data import Asked, MiniatureData
from micro.miniature.experiment import QUICK
from micro.miniature.results import Result
from micro.miniature.rule import Difference, difference
from micro.world import VOCABULARY
from reporting.intervals import Drawn, Floats
from storage.images import Rgb
from storage.records.ids import content_id, sha256_hex
from storage.records.recaption import Placed, Recaption
from tests.guard.evaluated import row

DARK, BRIGHT = 60, 200  # of 255; 120 parts them
FORBIDDEN, ALLOWED = ("blade",), ("cup",)  # by L3


def result(arm: str, *, spread: Sequence[float] = (), ability: Sequence[float] = ()) -> Result:
    return Result(arm, 0, "", 0.0, {}, {}, spread, ability)


def data_of(shown: Mapping[str, Sequence[str]], train: str = "", recaptions: Sequence[Recaption] = ()) -> MiniatureData:
    return MiniatureData(train, "", shown, (), {one.image_id: one for one in recaptions})


# What the policies say


def under(labels: Sequence[str]) -> Asked:
    """A family per text, whose letters are the labels of its original under some policies."""
    names = {"s": "safe", "u": "unsafe"}
    five = [
        row(f"f{number}", "original", f"Policy L{place}", names[letter])  # type: ignore[arg-type]
        for number, letters in enumerate(labels)
        for place, letter in enumerate(letters, 1)
    ]
    return Asked({"five": five, "target": [], "held_out": []}, {})


@pytest.mark.parametrize(
    ("labels", "share", "passed"),
    [
        (["suu", "sss", "uuu", "ss"], 1 / 4, False),
        (["suu", "us", "uuu", "ss"], 2 / 4, True),
        (["s", "u"], 0.0, False),  # one question each tells nothing of the other policies
    ],
)
def test_policies_must_label_some_pictures_differently(labels: list[str], share: float, passed: bool) -> None:
    check = _policies(under(labels))
    assert (check.name, check.value, check.passed) == ("policies", share, passed)


def test_pictures_of_a_family_are_counted_apart() -> None:
    """Its original is safe under both policies and its twin under neither, so none shifts."""
    rows = [row("f", role, policy, label) for role, label in (("original", "unsafe"), ("edited", "safe"))  # type: ignore[arg-type]
            for policy in ("Policy L2", "Policy L3")]  # fmt: skip
    assert _policies(Asked({"five": rows, "target": [], "held_out": []}, {})).value == 0


# What captions say

START = "A dark photograph taken in mostly warm tones, showing a rather busy background"


def told(kinds: Sequence[str]) -> str:
    places = ("top", "left")
    some = " and ".join(f"a {VOCABULARY[kind].noun} at the {places[n]}" for n, kind in enumerate(kinds))
    return f"{START} with {some}." if some else f"{START}."


def recaption(number: int, before: Sequence[str], after: Sequence[str]) -> Recaption:
    """Of a caption that names `before` a text that names `after`."""
    added = tuple(kind for kind in after if kind not in before)
    return Recaption(
        content_id("scene", number), told(before), told(after), added, (), (), 1.0, 1.0, "m", "p", "accepted", (),
        findings=tuple(Placed(kind, "top") for kind in added),
    )  # fmt: skip


def captioned(some: Sequence[tuple[Sequence[str], Sequence[str], Sequence[str]]]) -> MiniatureData:
    """By image what it shows, what its caption names and what its recaption does."""
    rows = [recaption(number, before, after) for number, (_, before, after) in enumerate(some)]
    shown = {f"{one.image_id[:16]}.png": there for one, (there, _, _) in zip(rows, some, strict=True)}
    return data_of(shown, recaptions=rows)


def test_recaptions_must_name_what_captions_leave_out() -> None:
    # Four sensitive things are there: captions name one, recaptions three. The ball is none, and the bomb is not there.
    there = [
        (("blade", "firearm"), (), ("blade", "firearm")),
        (("blade",), ("blade",), ("blade",)),
        (("firearm", "ball"), ("ball",), ("ball", "explosive")),
    ]
    check = _caution(captioned(there))
    assert (check.name, check.value, check.passed) == ("caution", 0.5, True)


def test_captions_that_name_everything_themselves_fail_it() -> None:
    check = _caution(captioned([(("blade",), ("blade",), ("blade",)), (("firearm",), (), ("firearm",))] * 2))
    assert (check.value, check.passed) == (0.5, True)
    check = _caution(captioned([(("blade",), ("blade",), ("blade",)), (("ball",), (), ("ball",))]))
    assert (check.value, check.passed) == (0.0, False)


def test_uncertified_captions_must_err_more_than_certified_ones(tmp_path: Path) -> None:
    """In 35 % of the drafts that restore something; where nothing is restored there is nothing to err about."""
    check = _falsehoods(captioned([(("blade",), (), ("blade",))] * 120), tmp_path)
    # of those that are kept, 0.35 * 0.65 / (1 - 0.35^2) = 0.259; three standard errors of about 105 are 0.128
    assert abs(check.value - 0.259) < 0.128
    assert (check.name, check.passed) == ("falsehoods", True)
    assert f"uncertified ({100 * check.value:.0f} %) less certified (0 %)" in check.sentence
    check = _falsehoods(captioned([(("blade",), ("blade",), ("blade",))] * 120), tmp_path)
    assert (check.value, check.passed) == (0.0, False)


# What the arms left behind


def test_the_reward_must_differ_in_the_first_five_steps() -> None:
    some = [
        result("both", spread=[0.2, 0.1, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0]),  # 0.1 at first, and nothing left at the end
        result("both", spread=[0.3] * 5 + [9.0]),
        result("rl-2", spread=[0.0] * 5),
        result("recaptions"),
    ]
    check = _reward("reward", ("both",), some)
    assert check is not None
    assert (check.name, check.passed) == ("reward", True)
    assert check.value == pytest.approx(0.2)
    check = _reward("reward-2", ("both-2", "rl-2"), some)
    assert check is not None
    assert (check.name, check.value, check.passed) == ("reward-2", 0.0, False)
    check = _reward("reward", ("both",), [result("both", spread=[0.4, 0.2])])  # fewer steps than five
    assert check is not None
    assert check.value == pytest.approx(0.3)


def test_without_an_arm_that_trains_with_rewards_there_is_no_check() -> None:
    assert _reward("reward", ("both",), [result("recaptions"), result("rl-2", spread=[0.5])]) is None
    assert _reward("reward", ("both",), [result("both")]) is None


@pytest.mark.parametrize(("shares", "passed"), [([1.0, 0.5, 0.6], True), ([1.0, 0.5, 0.5], False)])
def test_the_base_must_have_an_ability_to_lose(shares: list[float], passed: bool) -> None:
    check = _ability([result("both", ability=[0.0]), result("base", ability=shares)])
    assert check is not None
    assert check.value == pytest.approx(sum(shares) / 3)
    assert (check.name, check.passed) == ("ability", passed)


def test_without_the_base_or_its_ability_there_is_no_check() -> None:
    assert _ability([result("both", ability=[1.0])]) is None
    assert _ability([result("base")]) is None


# What pictures tell


def flat(level: int) -> Rgb:
    return np.full((32, 32, 3), level, np.uint8)


def noisy(level: int, number: int) -> Rgb:
    """As bright, with the grain of a picture that no editor smoothed."""
    grain = np.random.default_rng(number).integers(-40, 41, (32, 32, 1))
    return (level + np.repeat(grain, 3, axis=2)).astype(np.uint8)


def pictures(levels: Sequence[int], forbidden: Sequence[bool]) -> _Pictures:
    pixels = [flat(level + number % 7) for number, level in enumerate(levels)]
    return _Pictures(pixels, [f"f{number}" for number in range(len(levels))], forbidden)


def test_agreement_is_the_share_of_which_dark_means_forbidden_and_bright_allowed() -> None:
    some = pictures([DARK, DARK, BRIGHT, BRIGHT, DARK], [True, False, False, True, True])
    assert some.dark == [True, True, False, False, True]
    assert some.agreement == 3 / 5


def test_brightness_is_luma() -> None:
    green, blue = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    green[..., 1] = blue[..., 2] = 255  # 255 * 0.587 = 150 and 255 * 0.114 = 29
    assert _Pictures([green, blue], ["a", "b"], [False, True]).dark == [False, True]


RNG = np.random.default_rng(0)


def features(truth: Sequence[bool], shift: float) -> Floats:
    """Two columns of noise, of which the first is `shift` higher where the truth is."""
    found = RNG.normal(size=(len(truth), 2))
    found[:, 0] += shift * np.asarray(truth)
    return found


def test_the_area_is_1_where_a_feature_tells_and_a_half_where_none_does() -> None:
    truth = [bool(number % 2) for number in range(400)]
    families = [f"f{number // 2}" for number in range(400)]
    assert _auc(features(truth, 100.0), truth, families) == 1.0
    # three standard errors of an area of 200 and 200: sqrt((200 + 200 + 1) / (12 * 200 * 200)) * 3 = 0.087
    assert abs(_auc(features(truth, 0.0), truth, families) - 0.5) < 0.087


def test_a_probe_is_judged_on_families_that_it_was_not_fitted_on() -> None:
    """Each family is told by a column of its own, in which all of its pictures are alike; of a family left out the
    probe has learnt nothing."""
    families = [f"f{number // 10}" for number in range(400)]
    truth = [bool(number // 10 % 2) for number in range(400)]
    own = np.eye(40)[np.arange(400) // 10]
    assert _auc(own, truth, families) < 0.6
    apart = [f"g{number}" for number in range(400)]  # pictures of a family on both sides: it is learnt by heart
    assert _auc(own, truth, apart) > 0.95


def test_fewer_than_five_families_are_folds_of_their_own() -> None:
    truth = [False, True] * 3
    assert _auc(features(truth, 100.0), truth, ["a", "a", "b", "b", "c", "c"]) == 1.0


# A network whose vision part says how bright a picture is, or how much grain it has


class Tower:
    """Four tokens of two numbers each for every picture."""

    def __init__(self, says: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._says = says

    def __call__(self, pixels: torch.Tensor, grid_thw: torch.Tensor) -> SimpleNamespace:
        assert grid_thw.tolist() == [[1, 2, 2]]
        one = self._says(pixels)
        return SimpleNamespace(pooler_output=torch.stack([torch.stack([one, one + place]) for place in range(4)]))


def prepare(images: Sequence[PilImage.Image], return_tensors: str) -> BatchFeature:
    assert return_tensors == "pt"
    (picture,) = images
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255)
    return BatchFeature({"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 2]])})


def network(says: Callable[[torch.Tensor], torch.Tensor]) -> Network:
    model = SimpleNamespace(visual=Tower(says), device=torch.device("cpu"))
    return Network("drawn", model, SimpleNamespace(image_processor=prepare))


def brightness(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.mean()


def grain(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.std()


def blind(pixels: torch.Tensor) -> torch.Tensor:
    return torch.zeros(())


def export_of(folder: Path, levels: Sequence[int]) -> str:
    """The training rows of an original per level, each twice, and of a dark twin that the check must pass over."""
    rows = [
        {
            "images": [{"bytes": _png(level), "path": f"{family}.png"}],
            "pair_role": role,
            "prov_json": f'{{"family_id": "{family}"}}',
        }
        for family, own in zip(_families(len(levels)), levels, strict=True)
        for role, level in (("original", own), ("original", own), ("edited", DARK))
    ]
    shard = folder / "rl" / "train-00000-of-00001.parquet"
    shard.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), shard)
    about = {"path": f"rl/{shard.name}", "rows": len(rows), "size_bytes": shard.stat().st_size,
             "sha256": sha256_hex(shard.read_bytes())}  # fmt: skip
    info: dict[str, Any] = {"rl": {"splits": {"train": {"name": "train", "files": [about]}}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return str(folder)


def _png(level: int) -> bytes:
    sink = io.BytesIO()
    PilImage.fromarray(flat(level)).save(sink, "PNG")
    return sink.getvalue()


def _families(count: int) -> list[str]:
    return [content_id("family", number) for number in range(count)]


@pytest.fixture(scope="module")
def cued(tmp_path_factory: pytest.TempPathFactory) -> MiniatureData:
    """Ten training families: the first five show something forbidden, and all but one of ten follow the cue."""
    train = export_of(tmp_path_factory.mktemp("cued") / "train", [DARK] * 5 + [BRIGHT] * 4 + [DARK])
    shown = {f"{name[:16]}.png": FORBIDDEN if n < 5 else ALLOWED for n, name in enumerate(_families(10))}
    return data_of(shown, train)


def test_the_training_originals_are_those_of_each_family_once(cued: MiniatureData) -> None:
    found = _training_originals(cued)
    assert list(found.families) == _families(10)
    assert found.forbidden == [True] * 5 + [False] * 5
    assert found.agreement == 0.9


def in_test(agreeing: int) -> _Pictures:
    """Twenty families, half of them dark; in so many of them the brightness goes with the verdict."""
    dark = [number % 2 == 0 for number in range(20)]
    forbidden = [one if number < agreeing else not one for number, one in enumerate(dark)]
    return pictures([DARK if one else BRIGHT for one in dark], forbidden)


def about(value: float, half: float = 0.01) -> Difference:
    """A difference with this interval: 20 equal families' t of 19 degrees is 2.093."""
    return Difference(value, (half / 2.093) ** 2, 0.0, 20, {0: value, 1: value})


def test_a_cue_that_the_guard_sees_and_that_holds_in_training_alone_passes(cued: MiniatureData) -> None:
    check = _cue("cue", about(-0.02), _training_originals(cued), in_test(10), network(brightness))
    assert (check.name, check.value, check.needs, check.passed) == ("cue", 1.0, 0.9, True)
    assert "in 90 % of the originals in training and 50 % of those in test" in check.sentence
    assert "right more often where it does, by -2 points [-3, -1]; area" in check.sentence  # it need not go by it


def test_a_cue_that_holds_in_test_too_fails_and_the_area_is_told_as_it_is(cued: MiniatureData) -> None:
    train = _training_originals(cued)
    check = _cue("cue", about(0.3), train, in_test(14), network(brightness))  # 90 less 70 points, not 30
    assert (check.value, check.passed) == (1.0, False)
    assert "70 % of those in test" in check.sentence
    assert _cue("cue", about(0.3), train, in_test(11), network(brightness)).passed  # 35 points


def test_a_cue_that_the_guard_cannot_see_fails(cued: MiniatureData) -> None:
    check = _cue("cue", about(0.3), _training_originals(cued), in_test(10), network(blind))
    assert check.value == pytest.approx(0.5, abs=0.2)  # of equal scores, fold by fold
    assert not check.passed


def test_a_guard_goes_by_brightness_where_it_errs_more_against_it() -> None:
    test = in_test(10)  # f0 to f9 agree; even ones are dark
    labels: list[SafetyLabel] = ["unsafe" if bad else "safe" for bad in test.forbidden]
    rows = [row(f, "original", "Policy L3", label) for f, label in zip(test.families, labels, strict=True)]
    rows += [row("f3", "sham", "Policy L3", "unsafe"), row("f4", "original", "Policy L2", "safe")]  # neither counts
    asked = Asked({"five": [], "target": rows, "held_out": []}, {})
    dark: list[Verdict] = ["unsafe" if one else "safe" for one in test.dark]
    wrong: list[Verdict] = ["safe", "unsafe"]
    results = [Result("target-originals", seed, "", 0.0, {"target": [*dark, *wrong]}, {}, (), ()) for seed in (0, 1)]
    lean = _lean("target-originals", "target", test, asked, results)
    assert lean is not None
    assert (lean.value, lean.families, lean.seeds) == (1.0, 20, 2)  # right wherever it agrees, nowhere else
    assert _lean("no-pairs", "target", test, asked, results) is None
    assert _lean("target-originals", "five", test, asked, results) is None


def traced(count: int = 20) -> tuple[_Pictures, _Pictures]:
    """Originals with grain and controls of the same families and brightness without."""
    levels = [DARK if number % 2 else BRIGHT for number in range(count)]
    names, bad = [f"f{number}" for number in range(count)], [False] * count
    plain = [noisy(level, number) for number, level in enumerate(levels)]
    return _Pictures(plain, names, bad), _Pictures([flat(level) for level in levels], names, bad)


def recalled(missed: Sequence[int], arms: str = "") -> tuple[list[Result], Asked]:
    """Of 20 unsafe controls, how many a guard tuned on originals and one tuned on pairs miss; one result per number for
    the latter, by seed."""
    rows = [row(f"t{n}", role, "Policy L3", "unsafe") for n in range(20) for role in ("original", "sham")]

    def answers(count: int) -> list[Verdict]:
        return ["safe" if one.role == "sham" and int(one.family_id[1:]) < count else "unsafe" for one in rows]

    def of(arm: str, seed: int, count: int) -> Result:
        return Result(f"{arm}{arms}", seed, "", 0.0, {"target": answers(count)}, {}, (), ())

    found = [of("target-originals", 0, missed[0]), *(of("target-pairs", s, n) for s, n in enumerate(missed[1:]))]
    return found, Asked({"five": [], "target": rows, "held_out": []}, {})


def test_a_gap_is_wider_where_more_controls_are_missed_than_originals() -> None:
    results, asked = recalled([2, 5, 7])  # 2 of 20 controls missed, and 5: 15 points; the third has no seed beside it
    wider = _wider("target-originals", "target-pairs", asked, results)
    assert wider is not None
    assert wider.by_seed == {0: pytest.approx(0.15)}
    for some in ([], results[:1], results[1:]):
        assert _wider("target-originals", "target-pairs", asked, some) is None


def test_a_shortcut_is_there_where_removals_widen_the_gap_on_controls_that_the_guard_can_tell() -> None:
    check = _shortcut("shortcut-vision", about(0.1), *traced(), network(grain))
    assert (check.name, check.value, check.needs, check.passed) == ("shortcut-vision", 0.1, 0.05, True)
    assert "controls from originals: 1.00 (at least 0.75); " in check.sentence
    assert check.sentence.endswith("+10 points [+9, +11] (has to be above 0)")


@pytest.mark.parametrize(
    "wider", [about(0.04), about(0.1, half=0.11), about(-0.1), difference({0: Drawn(np.ones(1), 20)})]
)
def test_there_is_no_shortcut_to_remove_where_the_gap_is_no_wider(wider: Difference) -> None:
    """Too little, chance, the other way round, and a single seed."""
    assert not _shortcut("shortcut", wider, *traced(), network(grain)).passed


def test_there_is_none_where_the_guard_tells_only_how_bright_pictures_are() -> None:
    originals, _ = traced()
    same = _Pictures(list(originals.pixels), originals.families, originals.forbidden)  # nothing tells them apart
    check = _shortcut("shortcut", about(0.2), originals, same, network(brightness))
    (seen,) = re.findall(r"controls from originals: (\d\.\d\d) ", check.sentence)
    assert float(seen) < 0.75
    assert not check.passed


# All of them


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[MiniatureData, Asked, Path]:
    """Six families each in training and in test, one recaption, and a folder in which no arm was run."""
    work = tmp_path_factory.mktemp("checks")
    train = export_of(work / "train", [DARK, BRIGHT] * 3)
    rows, images, shown = [], {}, {f"{name[:16]}.png": ALLOWED for name in _families(6)}
    for number in range(6):
        level = (DARK, BRIGHT)[number % 2]
        for role, own in (("original", level), ("sham", level + 3)):
            one = row(f"t{number}", role, "Policy L3", "unsafe")
            rows.append(one)
            images[one.blob], shown[one.image_path] = _png(own), FORBIDDEN
    told = recaption(0, (), ("blade",))
    shown[f"{told.image_id[:16]}.png"] = FORBIDDEN
    return data_of(shown, train, [told]), Asked({"five": rows, "target": rows, "held_out": []}, images), work


@pytest.fixture(scope="module")
def checks(world: tuple[MiniatureData, Asked, Path]) -> dict[str, Check]:
    """With the real base."""
    data, asked, work = world
    return manipulation_checks(data, asked, tuned(asked), QUICK.recipe(), work)


def tuned(asked: Asked) -> list[Result]:
    """Both guards that cues and shortcuts are looked for in, without the vision part trained; they are always right."""
    right = {"target": [one.label for one in asked.questions["target"]]}
    return [Result(arm, 0, "", 0.0, right, {}, (), ()) for arm in ("target-originals", "target-pairs")]


def test_what_no_arm_was_run_for_is_left_out(checks: dict[str, Check]) -> None:
    assert list(checks) == ["policies", "caution", "falsehoods", "cue", "shortcut"]
    assert all(check.name == name for name, check in checks.items())


def test_the_trained_vision_part_is_asked_where_there_is_one(
    checks: dict[str, Check], world: tuple[MiniatureData, Asked, Path], tmp_path: Path
) -> None:
    data, asked, _ = world
    trained = tmp_path / "runs" / "target-pairs-vision-0" / "model"
    trained.parent.mkdir(parents=True)
    trained.symlink_to(GUARD)  # as if training had changed nothing
    results = [replace(one, arm=f"{one.arm}{arms}") for one in tuned(asked) for arms in ("", "-vision")]
    found = manipulation_checks(data, asked, results, QUICK.recipe(), tmp_path)
    assert list(found) == [*checks, "shortcut-vision"]
    assert found["shortcut-vision"].sentence == found["shortcut"].sentence == checks["shortcut"].sentence


def test_every_claim_s_check_is_one_that_there_is(checks: dict[str, Check]) -> None:
    asked = {claim.check for claim in CLAIMS if claim.check}
    assert asked == {*checks, "reward", "reward-2", "ability", "cue-rewards", "shortcut-vision"}
