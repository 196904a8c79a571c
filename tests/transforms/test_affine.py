"""An image of coordinates says where each of its pixels came from: the affine of an augmentation must say the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.training.batch import PrepareBatch
from ufc_monai.transforms.affine import affine_between, inverse_affine, sampling_grid
from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd
from ufc_monai.transforms.views import TwoViews, TwoViewsd

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
    views, affine = TwoViews(BatchAugment(**options)).located(image)
    batch = {"image": image, "cluster": torch.arange(4)}
    told = TwoViewsd("image", BatchAugment(**options), repeat_keys=["cluster"], affine_key="affine")(batch)
    plain = TwoViewsd("image", BatchAugment(**options), repeat_keys=["cluster"])(batch)
    assert set(told) - set(plain) == {"affine"}
    assert torch.equal(told["image"], views)
    assert torch.equal(plain["image"], views)
    assert torch.equal(told["affine"], affine)


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
