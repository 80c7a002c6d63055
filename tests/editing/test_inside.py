"""What is inside a mask, on photographs: every planted fault is refused for its own reason, good fills are accepted."""

import numpy as np
import pytest

from benchmarks.certificates import reasons_against, rows
from editing.inside import measure_inside
from editing.masks import composite, dilate, enlarged, feather, resize_mask, resize_rgb
from tests.photographs import collect, regions_for
from tests.photographs.edits import FREE, HONEST, INSIDE, as_jpeg, marked

# Of scikit-image's and scikit-learn's own photographs: a rocket, a teaspoon, a space shuttle, a tripod, a flower.
CHOSEN = ("rocket.jpg:0", "coffee.jpg:2", "astronaut.jpg:13", "camera.jpg:14", "dahlia.jpg:18")


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    found = {region.name.split(":")[0]: region for region in marked(folder, regions_for(collect(folder)))}
    wanted = [found[name.split(":")[0]] for name in CHOSEN]
    assert len(wanted) == 5
    return wanted


@pytest.mark.parametrize("fault", INSIDE)
def test_a_fault_inside_the_mask_is_refused_for_its_own_reason(regions, fault):
    ((_, count, refused, other),) = rows(regions, {fault: INSIDE[fault]}, composited=True)
    assert refused == count, other


@pytest.mark.parametrize("fault", FREE)
def test_a_fault_beside_the_mask_is_refused_in_free_mode(regions, fault):
    ((_, count, refused, other),) = rows(regions, {fault: FREE[fault]}, composited=False)
    assert refused == count, other


@pytest.mark.parametrize("fill", HONEST)
def test_an_honest_fill_is_accepted(regions, fill):
    filled = [(region, edited) for region in regions if (edited := HONEST[fill](region)) is not None]
    assert len(filled) >= 3
    for region, edited in filled:
        assert reasons_against(region, edited, composited=True, reader=None) == (), region.name


@pytest.mark.parametrize("side", [60, 100, 160])
def test_a_thing_that_was_cut_out_exactly_is_gone(regions, side):
    """The best edit there is: what was there before somebody put the thing in, with the grown edge as it was."""
    for region in regions:
        truth, (height, width) = region.original, region.mask.shape
        y, x = np.ogrid[:height, :width]
        thing = (y - height // 2) ** 2 + (x - width // 2) ** 2 <= (side // 2) ** 2
        donor = resize_rgb(region.donor, (width, height))
        original = np.where(thing[..., None], donor, truth)
        mask = feather(dilate(thing, 0.12), 3) > 0
        assert measure_inside(original, as_jpeg(truth, 90), mask, 3).detail_kept <= 1, region.name


def test_each_part_of_a_mask_is_measured(regions):
    region = regions[0]
    wide = np.concatenate([region.original, region.original], axis=1)
    mask = np.concatenate([region.mask, region.mask], axis=1)
    half_done = np.concatenate([region.good, region.original], axis=1)
    assert measure_inside(wide, half_done, feather(mask, 3) > 0, 3).detail_kept > 5


@pytest.mark.parametrize("feather_px", [0, 3, 31, 32, 64])
def test_a_grey_box_is_flat_however_wide_the_blend(regions, feather_px):
    region = regions[0]
    mask = np.zeros(region.mask.shape, np.bool_)
    mask[130:290, 230:390] = True
    edited = composite(region.original, np.full_like(region.original, 128), mask, feather_px)
    found = measure_inside(region.original, edited, feather(mask, feather_px) > 0, feather_px)
    assert found.flat_share > 0.9


def test_on_a_plain_ground_rounding_is_no_grain():
    page = np.full((200, 300, 3), 250, np.uint8)
    mask = np.zeros((200, 300), np.bool_)
    mask[60:140, 80:200] = True
    edited = page.copy()
    edited[mask] = np.random.default_rng(0).integers(249, 252, (mask.sum(), 3))
    assert measure_inside(page, edited, mask, 3).rough_share == 0.0


@pytest.mark.parametrize("shape", [(1, 2400), (3, 9000), (9000, 3)])
def test_a_thin_picture_is_measured_or_not_but_breaks_nothing(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    mask = np.zeros(shape, np.bool_)
    mask[: max(1, shape[0] // 2), : max(1, shape[1] // 2)] = True
    measure_inside(picture, picture, mask, 0)


def test_a_large_picture_is_judged_like_a_small_one(regions):
    region = regions[0]
    size = region.original.shape[1] * 3, region.original.shape[0] * 3
    original, fill = (resize_rgb(picture, size) for picture in (region.original, region.good))
    mask = feather(resize_mask(region.mask, size), 3) > 0
    assert measure_inside(original, fill, mask, 3).detail_kept <= 1
    assert measure_inside(original, original, mask, 3).detail_kept > 5


def test_a_smooth_wall_has_no_detail_to_follow_and_says_so():
    wall = np.full((120, 160, 3), 90, np.uint8)
    mask = np.zeros((120, 160), np.bool_)
    mask[40:80, 50:110] = True
    found = measure_inside(wall, wall, mask, 3)
    assert found.detail_kept is None
    assert (found.flat_share, found.rough_share, found.seam_share) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("side", [0, 1, 3, 9])
def test_a_region_too_small_to_be_measured_is_not(side):
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    mask = np.zeros((60, 60), np.bool_)
    mask[20 : 20 + side, 20 : 20 + side] = True
    found = measure_inside(picture, picture, mask, 3)
    assert (found.detail_kept, found.flat_share, found.rough_share) == (None, None, None)


def test_beside_the_mask_scaling_alone_changes_nothing(regions):
    original, mask = regions[1].original, regions[1].mask
    shown = resize_rgb(original, (original.shape[1] // 2, original.shape[0] // 2))
    answer = np.clip(shown.astype(int) + 5, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(enlarged(shown, shown, original, mask)[~mask], original[~mask])
    brighter = enlarged(answer, shown, original, mask)[~mask].astype(int) - original[~mask]
    assert np.median(brighter) == 5
    assert not np.array_equal(enlarged(shown, shown, original, mask)[mask], original[mask])  # the answer, enlarged
