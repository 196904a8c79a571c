"""Colours change as asked, for each picture of a batch by itself; and flips."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.transforms.batch import (
    BatchAugment,
    BatchAugmentd,
    affine_between,
    change_colour,
    changes_colour,
    inverse_affine,
    sampling_grid,
)
from ufc_monai.transforms.views import TwoViews, TwoViewsd

NEUTRAL = {"saturation": 1.0, "hue": 0.0, "grey": 0.0}
GEOMETRY: list[dict[str, Any]] = [
    {},
    {"flip": 1.0},
    {"flip": 0.5},
    {"rotation": 40.0},
    {"field": (0.6, 1.3)},
    {"shift": 0.2},
    {"field": (0.3, 0.8), "shift": None},
    {"rotation": 40.0, "flip": 0.5, "field": (0.5, 0.9), "shift": None},
]
SIZES = [(24, 24), (20, 36)]


def pictures(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 10, 8, generator=torch.Generator().manual_seed(seed))


def changed(image: Tensor, **values: Any) -> Tensor:
    """Parameters as one number for all, or a list."""
    p = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in {**NEUTRAL, **values}.items()}
    return change_colour(image, **{name: value.expand(len(image)) for name, value in p.items()})


@pytest.mark.parametrize(("name", "value"), [("saturation", 0.9), ("hue", -0.1), ("grey", 1.0)])
def test_neutral_parameters_change_nothing(name: str, value: float) -> None:
    p = {name: torch.full((3,), neutral) for name, neutral in NEUTRAL.items()}
    assert not changes_colour(**p)
    assert changes_colour(**p | {name: torch.tensor([NEUTRAL[name], NEUTRAL[name], value])})


def test_a_third_of_the_circle_turns_red_to_green() -> None:
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(changed(red, hue=2 * math.pi / 3), red.roll(1, dims=1), atol=1e-4, rtol=0)


def test_no_saturation_is_grey_and_so_is_grey() -> None:
    image = pictures()
    grey = changed(image, grey=1)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(changed(image, saturation=0), grey, atol=1e-5, rtol=0)


def test_each_picture_has_its_own() -> None:
    image = pictures()
    result = changed(image, grey=[0, 1, 0], hue=[0.5, 0.0, 0.0])
    torch.testing.assert_close(result[0], changed(image, hue=0.5)[0])
    assert torch.equal(result[1, 0], result[1, 1])
    torch.testing.assert_close(result[2], image[2], atol=1e-4, rtol=0)


def test_values_stay_within_bounds() -> None:
    result = changed(pictures(50), saturation=1.8, hue=1.0)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("option", [{"hue": 0.1}, {"grey": 1.0}, {"saturation": (0.5, 0.6)}])
def test_grey_pictures_have_no_colours_to_change(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="these pictures have 1 channel: pass --channels 3"):
        BatchAugment(**option)(torch.rand(2, 1, 8, 8))


def test_augmentation_draws_colours_per_picture() -> None:
    image = pictures(1).expand(40, 3, 10, 8)
    grey = BatchAugment(grey=0.5)(image)[0]
    lost = (grey[:, 0] == grey[:, 1]).flatten(1).all(dim=1)
    assert 10 < lost.sum() < 30
    assert torch.allclose(grey[~lost], image[~lost], atol=1e-5)
    turned = BatchAugment(hue=0.1, saturation=(0.8, 1.2))(image)[0]
    assert torch.pdist(turned.flatten(1)).min() > 0


def test_colours_go_on_from_a_saved_place() -> None:
    options: dict[str, Any] = {"hue": 0.1, "saturation": (0.8, 1.2), "grey": 0.2, "flip": 0.5, "solarise": 0.2}
    augment, image = BatchAugment(**options, seed=4), pictures()
    augment(image)
    saved = augment.generator.get_state()
    expected = augment(image)[0]
    resumed = BatchAugment(**options, seed=5)
    resumed.generator.set_state(saved)
    assert torch.equal(resumed(image)[0], expected)


def test_flips_exchange_left_and_right_of_picture_and_label() -> None:
    image = pictures(20)
    label = (image[:, :1] * 8).to(torch.uint8)
    flipped, moved = BatchAugment(flip=1.0)(image, label)
    assert torch.allclose(flipped, image.flip(2), atol=1e-5)
    assert moved is not None
    assert torch.equal(moved, label.flip(2))
    some, _ = BatchAugment(flip=0.5)(image)
    kept = torch.isclose(some, image, atol=1e-5).flatten(1).all(dim=1)
    assert 4 < kept.sum() < 16
    assert torch.allclose(some[~kept], image[~kept].flip(2), atol=1e-5)


def coordinates(batch: int, size: tuple[int, int]) -> Tensor:
    """Images (B, 2, H, W) whose values are their own x and y, 0 to 1 instead of -1 to 1."""
    square = sampling_grid(torch.eye(2, 3).expand(batch, 2, 3), size)
    return (square.movedim(-1, 1) + 1) / 2


def inside(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether a place has four pixels around it, of which it is interpolated."""
    height, width = size
    return (grid.abs() <= torch.tensor([1 - 1 / width, 1 - 1 / height])).all(dim=-1)


def look(image: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image, grid, align_corners=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", GEOMETRY)
def test_pixels_come_from_where_the_affine_says(options: dict[str, Any], size: tuple[int, int]) -> None:
    new, _, affine = BatchAugment(**options, seed=1).located(coordinates(6, size))
    grid = sampling_grid(affine, size)
    seen = inside(grid, size)
    assert seen.float().mean() > 0.3
    torch.testing.assert_close(new.movedim(1, -1)[seen], ((grid + 1) / 2)[seen], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("second", [None, {"flip": 1.0, "field": (0.7, 0.9), "shift": None}])
@pytest.mark.parametrize("options", GEOMETRY)
def test_pixels_of_two_views_are_matched(
    options: dict[str, Any], second: dict[str, Any] | None, size: tuple[int, int]
) -> None:
    other = None if second is None else BatchAugment(**second, seed=7)
    views, affines = TwoViews(BatchAugment(**options, seed=2), other).located(coordinates(6, size))
    (one, two), (affine_one, affine_two) = views.chunk(2), affines.chunk(2)
    grid = sampling_grid(affine_between(affine_one, affine_two), size)
    own = inside(sampling_grid(affine_one, size), size)
    shown = inside(sampling_grid(affine_two, size), size).float()[:, None]
    both = own & inside(grid, size) & (look(shown, grid)[:, 0] > 0.9999)
    assert both.float().mean() > 0.1
    torch.testing.assert_close(look(two, grid).movedim(1, -1)[both], one.movedim(1, -1)[both], atol=1e-4, rtol=0)


@pytest.mark.parametrize("options", GEOMETRY)
def test_an_augmentation_is_undone_on_features_of_another_size(options: dict[str, Any]) -> None:
    """Means of blocks of coordinates are the coordinates of the blocks."""
    image = coordinates(5, (32, 32))
    new, _, affine = BatchAugment(**options, seed=3).located(image)
    features, original = F.avg_pool2d(new, 4), F.avg_pool2d(image, 4)
    grid = sampling_grid(inverse_affine(affine), (8, 8))
    # a block that reaches beyond the image has other means
    whole = F.avg_pool2d(inside(sampling_grid(affine, (32, 32)), (32, 32)).float()[:, None], 4)
    known = inside(grid, (8, 8)) & (look(whole, grid)[:, 0] > 0.9999)
    assert known.float().mean() > 0.1
    undone = look(features, grid).movedim(1, -1)
    torch.testing.assert_close(undone[known], original.movedim(1, -1)[known], atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0, 180), st.floats(0.2, 1), st.floats(1, 2))
def test_affines_compose_and_invert(seed: int, rotation: float, low: float, high: float) -> None:
    augment = BatchAugment(rotation=rotation, field=(low, high), shift=0.3, flip=0.5, seed=seed)
    affines = augment.located(torch.zeros(6, 1, 8, 8, dtype=torch.float64)).affine
    one, two, three = affines.chunk(3)
    still = torch.eye(2, 3, dtype=torch.float64).expand(2, 2, 3)
    torch.testing.assert_close(affine_between(one, one), still)
    torch.testing.assert_close(affine_between(still, one), inverse_affine(one))
    torch.testing.assert_close(affine_between(one, still), one)

    def after(first: Tensor, then: Tensor) -> Tensor:
        return affine_between(first, inverse_affine(then))

    torch.testing.assert_close(after(affine_between(one, two), affine_between(two, three)), affine_between(one, three))


def test_views_are_the_same_whether_or_not_their_affines_are_kept() -> None:
    options: dict[str, Any] = {"rotation": 20, "field": (0.5, 1), "shift": None, "noise": 0.1, "blur": 0.5, "flip": 0.5}
    image = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    views, affines = TwoViews(BatchAugment(**options)).located(image)
    batch = {"image": image, "cluster": torch.arange(4)}
    told = TwoViewsd("image", BatchAugment(**options), repeat_keys=["cluster"], affine_key="affine")(batch)
    plain = TwoViewsd("image", BatchAugment(**options), repeat_keys=["cluster"])(batch)
    assert set(told) - set(plain) == {"affine"}
    assert torch.equal(told["image"], views)
    assert torch.equal(plain["image"], views)
    one, two = affines.chunk(2)
    assert torch.equal(told["affine"], torch.cat([affine_between(one, two), affine_between(two, one)]))


def test_a_label_follows_the_affine() -> None:
    size = (24, 24)
    index = torch.arange(1, 24 * 24 + 1).reshape(1, 1, *size).repeat(3, 1, 1, 1)
    augment = BatchAugment(rotation=30, flip=0.5, shift=0.1, seed=4)
    new = BatchAugmentd(["image", "label"], augment, affine_key="affine")(
        {"image": coordinates(3, size), "label": index}
    )
    grid = sampling_grid(new["affine"], size)
    expected = F.grid_sample(index.float(), grid, mode="nearest", align_corners=False)
    assert torch.equal(new["label"], expected.to(index.dtype))


def test_a_loss_gets_the_affine_as_a_target() -> None:
    views = TwoViewsd("image", BatchAugment(rotation=20), repeat_keys=["cluster"], affine_key="affine")
    prepare = PrepareBatch(target_key=("cluster", "affine"), transform=views)
    image, (cluster, affine) = prepare({"image": torch.rand(3, 1, 8, 8), "cluster": torch.arange(3)}, "cpu")
    assert (len(image), len(cluster), tuple(affine.shape)) == (6, 6, (6, 2, 3))
