"""Cells of two views: matched on images of coordinates, and the local loss of GLCL on them."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.cells import cell_means, matched
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.local import GlobalLocalLoss, LocalContrastiveLoss
from ufc_monai.transforms.batch import BatchAugment, sampling_grid
from ufc_monai.transforms.views import TwoViewsd

STILL = torch.eye(2, 3, dtype=torch.float64).repeat(8, 1, 1)
"""Both views show the same pixels."""
GEOMETRY: list[dict[str, Any]] = [
    {"flip": 1.0},
    {"rotation": 180},
    {"field": (0.4, 1.0), "shift": None},
    {"rotation": 30, "field": (0.6, 1.2), "shift": 0.1, "flip": 0.5},
]


def coordinates(batch: int, side: int = 32) -> Tensor:
    """Images (B, 3, H, W) whose values are their own x and y, 0 to 1, and a 1, which is missing beyond the image."""
    square = sampling_grid(torch.eye(2, 3).expand(batch, 2, 3), (side, side))
    return F.pad(square.movedim(-1, 1) / 2 + 0.5, (0, 0, 0, 0, 0, 1), value=1)


@pytest.mark.parametrize("options", GEOMETRY)
def test_pixels_of_the_second_views_lie_where_the_first_have_them(options: dict[str, Any]) -> None:
    """Flip, rotation and crop of either view are undone: the same pixel of the image is at the same place."""
    views = TwoViewsd("image", BatchAugment(**options, seed=3), affine_key="affine")({"image": coordinates(6, side=64)})
    first, second, seen = matched(views["image"], views["affine"])
    inside = (first[:, :2] - 0.5).abs().amax(dim=1) < 0.47
    known = seen & inside & (torch.minimum(first, second)[:, 2] > 0.9999)  # what is mixed with nothing says nothing
    error = (first - second).abs().amax(dim=1)[known]
    assert 0.05 < known.float().mean() < 1
    assert error.max() < 0.6 / 64  # half a pixel at the edge of a view, where nothing lies beyond
    assert (error < 1e-3).float().mean() > 0.98


def test_what_the_second_view_does_not_show_is_not_seen() -> None:
    half = torch.tensor([[[0.5, 0, 0.5], [0, 1, 0]], [[2, 0, 0], [0, 2, 0]]])  # its right half; and twice as much
    _, _, seen = matched(torch.zeros(4, 1, 8, 8), half)
    assert seen[0].all()
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert torch.equal(seen[1], expected)


def test_cells_have_the_direction_of_the_mean_of_what_is_seen() -> None:
    maps, seen = torch.zeros(1, 2, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool)
    maps[:, 0, :2], maps[:, 1, 2:] = 3.0, 0.1
    maps[:, 1, 0] = 100.0  # and is not seen
    seen[0, 0], seen[0, 2:, 2:], seen[0, 2, 2] = False, False, True
    means, known = cell_means(maps, seen, grid=2)
    torch.testing.assert_close(means[0], torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]))
    assert known.tolist() == [[True, True, True, False]]


def test_regions_that_the_second_view_does_not_show_take_no_part() -> None:
    """Of a view that shows the middle alone, the places of the middle are drawn; what is missing is no anchor."""
    views, wide = maps(b=1, side=12), torch.tensor([[[2.0, 0, 0], [0, 2, 0]]])
    loss = LocalContrastiveLoss(regions=8, size=2, temperature=0.3)  # of 36 places, 9 are seen in part, 4 wholly
    value = loss(views, wide)
    assert float(loss.figures["dropped_anchors"]) == pytest.approx(1 - 4 / 8)
    first, second, _ = matched(views, wide)
    rows = [m[0, :, i : i + 2, j : j + 2].flatten() for m in (first, second) for i in (4, 6) for j in (4, 6)]
    torch.testing.assert_close(value, ClusterContrastiveLoss("simclr", 0.3)(torch.stack(rows), torch.zeros(8)))


def test_both_losses_of_glcl_are_added() -> None:
    groups, whole, pixels = torch.tensor([0, 1, 0, 1]), F.normalize(maps(b=2)[:, :, 0, 0], dim=1), maps(b=2)
    loss = GlobalLocalLoss(regions=4, seed=2)
    one, two = ClusterContrastiveLoss("fn_elim"), LocalContrastiveLoss(regions=4, seed=2)
    torch.testing.assert_close(loss((whole, pixels), (groups, STILL)), one(whole, groups) + two(pixels, STILL))
    assert loss.figures["chance"] == one.figures["chance"] + two.figures["chance"]
    assert loss.figures.keys() == one.figures.keys() | {"global_loss", "local_loss"}
    assert all(map(torch.equal, loss.views((whole, pixels)), whole.chunk(2)))


def maps(b: int, side: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2 * b, 3, side, side, generator=generator, dtype=torch.float64)


def test_local_loss_of_all_regions_is_nt_xent_within_each_slice() -> None:
    """With as many regions as places, every place is drawn, in any order."""
    views = maps(b=2)
    loss = LocalContrastiveLoss(regions=9, size=3, temperature=0.3)
    slow = []
    for first, second in zip(*views.chunk(2), strict=True):
        rows = [m[:, i : i + 3, j : j + 3].flatten() for m in (first, second) for i in (0, 3, 6) for j in (0, 3, 6)]
        slow.append(ClusterContrastiveLoss("simclr", 0.3)(torch.stack(rows), torch.zeros(18)))
    torch.testing.assert_close(loss(views, STILL), torch.stack(slow).mean())


def test_local_loss_falls_where_places_agree() -> None:
    first, second = maps(b=4).chunk(2)
    loss = LocalContrastiveLoss(regions=5)
    chance = float(loss(torch.ones_like(maps(b=4)), STILL))
    assert chance == pytest.approx(log(9))
    assert loss(torch.cat([first, first]), STILL) < 0.2 < chance < loss(torch.cat([first, second]), STILL) + 1


def test_local_regions_come_from_one_generator() -> None:
    one, two = LocalContrastiveLoss(regions=4), LocalContrastiveLoss(regions=4, seed=5)
    views = maps(b=2)
    one(views, STILL)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(views, STILL), two(views, STILL))
    assert not torch.equal(one(views, STILL), one(views, STILL))


def test_too_small_a_map() -> None:
    with pytest.raises(InputError, match="draws 13 regions of 3 pixels, and a map of 9 x 9 has 9"):
        LocalContrastiveLoss()(maps(b=1), STILL)


def test_local_loss_gradcheck() -> None:
    def loss(views: Tensor) -> Tensor:
        value: Tensor = LocalContrastiveLoss(regions=2, size=2)(views, STILL)
        return value

    assert torch.autograd.gradcheck(loss, maps(b=1, side=4).requires_grad_())
