"""Cells of slices of one group, brought back to their place: the loss of ufc_dense."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from batches import NEED_CLUSTERS
from test_cells import GEOMETRY, coordinates
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.losses.cells import placed_back
from ufc_monai.losses.contrastive import PRESETS, ClusterContrastiveLoss, anchor_losses
from ufc_monai.losses.local import CellContrastiveLoss, GlobalCellLoss
from ufc_monai.losses.protocol import DROPPED
from ufc_monai.transforms.batch import BatchAugment, inverse_affine

GROUPS = torch.tensor([0, 1, 0, 0, 1, 0])
STILL = torch.eye(2, 3, dtype=torch.float64).repeat(6, 1, 1)


def maps(side: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(6, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("options", GEOMETRY)
def test_views_go_back_to_the_place_of_their_slice(options: dict[str, Any]) -> None:
    images = coordinates(6, side=64)
    views = BatchAugment(**options, seed=3).located(images)
    back, seen = placed_back(views.image, inverse_affine(views.affine))
    known = seen & (back[:, 2] > 0.9999)
    error = (back - images)[:, :2].abs().amax(dim=1)[known]
    assert known.float().mean() > 0.05
    assert error.max() < 1 / 64
    assert (error < 1e-3).float().mean() > 0.9


@pytest.mark.parametrize("preset", NEED_CLUSTERS)
def test_by_loops(preset: str) -> None:
    """Every cell of every view against every other, one by one; a grid of 2 x 2, of pixels alone."""
    pixels, chosen = F.normalize(maps(side=2), dim=1), PRESETS[preset]
    cells = [(i, c) for i in range(6) for c in range(4)]
    f = torch.stack([pixels[i].flatten(1)[:, c] for i, c in cells])
    own = [[i % 3 == j % 3 and c == d and i != j for j, d in cells] for i, c in cells]
    mates = [[bool(GROUPS[i] == GROUPS[j]) and c == d for j, d in cells] for i, c in cells]
    itself, positive, negative = torch.eye(24, dtype=torch.bool), torch.tensor(mates), ~torch.tensor(mates)
    if chosen.positives == "own view":
        positive = torch.tensor(own)
    elif not chosen.include_self:
        positive = positive & ~itself
    slow = anchor_losses(f @ f.T / 0.3, positive, negative, chosen).mean()
    torch.testing.assert_close(CellContrastiveLoss(preset, 0.3, grid=2, cells=4)(maps(side=2), GROUPS, STILL), slow)


def test_closed_form() -> None:
    """Two cells are e0 and two e1, in all slices of one group: 5 mates, 6 negatives alike, 12 at right angles."""
    views = torch.zeros(6, 2, 2, 2, dtype=torch.float64)
    views[:, 0, :, 0] = views[:, 1, :, 1] = 1
    loss = CellContrastiveLoss("ufc", 0.5, grid=2, cells=4)
    value = loss(views, torch.zeros(6), STILL)
    assert float(value) == pytest.approx((log(6 * exp(2) + 12) - log(5) - 2) / 5)
    assert float(loss.figures["negatives"]) == 18
    assert float(loss.figures["chance"]) == pytest.approx(log(18 / 5) / 5)


def test_positions_within_a_threshold_are_mates_in_the_same_cell_alone() -> None:
    positions = torch.tensor([0.0, 0.05, 0.9, 0.0, 0.05, 0.9])
    by_position = CellContrastiveLoss("supcon_out", threshold=0.1, grid=2, cells=4)(maps(), positions, STILL)
    by_group = CellContrastiveLoss("supcon_out", grid=2, cells=4)(maps(), torch.tensor([0, 0, 1, 0, 0, 1]), STILL)
    torch.testing.assert_close(by_position, by_group)


def test_what_a_view_does_not_show_takes_no_part() -> None:
    affine = STILL.clone()
    affine[0] = torch.tensor([[2.0, 0, 1], [0, 1, 0]])  # the first view is of one half of its slice
    loss = CellContrastiveLoss("ufc", grid=2, cells=4)
    loss(maps(), GROUPS, affine)
    assert float(loss.figures["dropped_anchors"]) == pytest.approx(2 / 24)
    # a view that shows nothing at all has no gradient
    affine[0] = torch.tensor([[1.0, 0, 9], [0, 1, 0]])
    views = maps().requires_grad_()
    loss(views, GROUPS, affine).backward()
    assert views.grad is not None
    assert not views.grad[0].any()
    assert views.grad[1:].any()


def test_cells_come_from_one_generator() -> None:
    one, two = CellContrastiveLoss(grid=4, cells=3), CellContrastiveLoss(grid=4, cells=3, seed=5)
    one(maps(), GROUPS, STILL)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(maps(), GROUPS, STILL), two(maps(), GROUPS, STILL))
    assert not torch.equal(one(maps(), GROUPS, STILL), one(maps(), GROUPS, STILL))


def test_slices_and_cells_are_added() -> None:
    whole, loss = maps()[:, :, 0, 0], GlobalCellLoss("ufc", cells=2, grid=2, seed=2, weight=0.25)
    one, two = ClusterContrastiveLoss("ufc"), CellContrastiveLoss("ufc", cells=2, grid=2, seed=2)
    total = one(whole, GROUPS) + 0.25 * two(maps(), GROUPS, STILL)
    torch.testing.assert_close(loss((whole, maps()), (GROUPS, STILL)), total)
    assert loss.figures["chance"] == one.figures["chance"] + 0.25 * two.figures["chance"]
    assert all(map(torch.equal, loss.views((whole, maps())), whole.chunk(2)))


def test_cells_teach_where_all_slices_are_of_one_group() -> None:
    loss = GlobalCellLoss("ufc", cells=2, grid=2)
    whole = maps()[:, :, 0, 0]
    assert float(loss((whole, maps()), (torch.zeros(6), STILL))) > 0
    assert float(loss.whole.figures[DROPPED]) == 1
    assert float(loss.figures[DROPPED]) == 0


def test_cell_loss_gradcheck() -> None:
    def loss(views: Tensor) -> Tensor:
        value: Tensor = CellContrastiveLoss(grid=2, cells=2)(views, GROUPS, STILL)
        return value

    assert torch.autograd.gradcheck(loss, maps(side=2).requires_grad_())
