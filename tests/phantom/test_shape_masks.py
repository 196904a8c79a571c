"""Masks of a shape: what is promised of trees of vessels, and of lungs and heart from the front."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ufc_monai.base.errors import InputError
from ufc_monai.phantom.masks import SEEN, THINNEST, frontal_masks, grow_tree, paint_tree, shape_masks, vessel_mask

TREES = range(8)


def grown(seed: int) -> list[NDArray[np.float64]]:
    """A tree that enters from the left in the middle."""
    return grow_tree(np.random.default_rng(seed), (0.0, 0.5), 0.0, 0.04)


@pytest.mark.parametrize("shape", ["vessels", "lungs"])
def test_the_same_seed_draws_the_same_masks(shape: str) -> None:
    masks = shape_masks(shape, 32, seed=3, number=3)
    assert masks.shape == (3, 1, 32, 32)
    assert masks.dtype == torch.float32
    assert {*masks.flatten().tolist()} == {0, 1}
    assert torch.equal(masks[:2], shape_masks(shape, 32, seed=3, number=2))
    assert not torch.equal(masks, shape_masks(shape, 32, seed=4, number=3))


def test_vessels_narrow_and_end_thin() -> None:
    for seed in TREES:
        for vessel in grown(seed):
            assert (np.diff(vessel[:, 2]) < 0).all()
            x, y, r = vessel[-1]
            inside = min(x, y, 1 - x, 1 - y) > 0
            assert not inside or r < 1.27 * THINNEST  # it may fork where it ends


def test_vessels_fork_from_vessels_by_the_law_of_cubes() -> None:
    forks = 0
    for seed in TREES:
        vessels = grown(seed)
        for n, vessel in enumerate(vessels[1:], start=1):
            places = [(v, int(i)) for v in vessels[:n] for i in np.flatnonzero((v[:, :2] == vessel[0, :2]).all(axis=1))]
            parent, fork = places[0]
            if fork + 1 < len(parent):
                after = parent[fork + 1, 2] / 0.997  # one step further, it has narrowed
                assert parent[fork, 2] ** 3 == pytest.approx(after**3 + vessel[0, 2] ** 3)
                forks += 1
    assert forks > 20


def test_vessels_wind() -> None:
    turns = []
    for seed in TREES:
        steps = np.diff(grown(seed)[0][:, :2], axis=0)
        turns.append(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
    assert all(np.abs(np.diff(t)).max() > 0 for t in turns)
    assert max(np.ptp(t) for t in turns) > 0.5


@pytest.mark.parametrize("size", [32, 64, 200])
def test_a_tree_is_one_piece(size: int) -> None:
    for seed in TREES:
        mask = np.zeros((size, size), np.bool_)
        paint_tree(mask, grown(seed))
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
        assert mask[0, size // 2 - 2 : size // 2 + 2].any()


def test_a_picture_has_three_trees_at_most() -> None:
    for seed in TREES:
        mask = vessel_mask(np.random.default_rng(seed), 64)
        assert 1 <= ndimage.label(mask, np.ones((3, 3)))[1] <= 3


def test_lungs_are_on_both_sides_of_the_heart() -> None:
    for seed in range(3):
        masks = frontal_masks(np.random.default_rng(seed), 48)
        assert masks.keys() == SEEN.keys()
        pieces, n = ndimage.label(masks["lungs"])
        large = [k for k in range(1, n + 1) if (pieces == k).sum() > 50]
        assert len(large) == 2
        x, z = ndimage.center_of_mass(masks["heart"])
        left, right = sorted(ndimage.center_of_mass(pieces == k)[0] for k in large)
        assert left < x < right
        assert z < ndimage.center_of_mass(masks["lungs"])[1] + 4  # the heart is low, and x grows to the right
        tops = np.flatnonzero(masks["lungs"].any(axis=0))
        assert tops[-1] < 47


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match="shape must be vessels, lungs or heart, got 'bones'"):
        shape_masks("bones", 32)
