"""Cleaning a stack of 2D predictions: smoothing from slice to slice, and the largest piece."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from ufc_monai.transforms.clean import CleanVolume, CleanVolumed, keep_largest, largest_share, smooth_slices


def scores_of(classes: torch.Tensor, n: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, n).movedim(-1, 0).float() + torch.rand(n, *classes.shape) / 10


def test_smoothing_is_the_mean_of_the_slices_that_exist() -> None:
    logits = torch.randn(3, 4, 4, 5)
    found = smooth_slices(logits.clone())
    p = logits.softmax(0)
    for z in range(5):
        expected = torch.stack([p[..., i] for i in (z - 1, z, z + 1) if 0 <= i < 5]).mean(0)
        assert torch.allclose(found[..., z], expected, atol=1e-6)
    assert torch.allclose(smooth_slices(logits.clone(), 1), p)


def test_one_slice_is_its_own_neighbourhood() -> None:
    logits = torch.randn(3, 4, 4, 1)
    assert torch.allclose(smooth_slices(logits.clone()), logits.softmax(0))


def test_the_largest_piece_stays_and_the_rest_becomes_background() -> None:
    torch.manual_seed(0)
    classes = torch.from_numpy(ndimage.zoom(np.random.default_rng(0).integers(0, 3, (5, 5, 4)), 4, order=0))
    scores = scores_of(classes, 3)
    found = keep_largest(scores.clone(), [1]).argmax(0)
    assert torch.equal(found == 2, classes == 2), "other classes are left alone"
    pieces, n = ndimage.label((classes == 1).numpy())
    assert n > 1
    largest = max(range(1, n + 1), key=lambda i: int((pieces == i).sum()))
    assert torch.equal(found == 1, torch.from_numpy(pieces == largest))


def test_one_piece_and_an_absent_class_change_nothing() -> None:
    scores = scores_of(torch.zeros(6, 6, 3, dtype=torch.long).index_fill(0, torch.tensor([2, 3]), 1), 3)
    assert torch.equal(keep_largest(scores.clone(), [1, 2]), scores)


def test_the_share_of_the_largest_piece() -> None:
    mask = np.zeros((10, 10, 3), dtype=bool)
    assert largest_share(mask) == 1
    mask[:3, :3] = True
    assert largest_share(mask) == 1
    mask[9, 9, 0] = True
    assert largest_share(mask) == 27 / 28


def test_a_volume_is_smoothed_and_then_cleaned() -> None:
    logits, cleaning = torch.randn(3, 6, 6, 4) * 3, {"slices": 3, "connected": [1]}
    expected = keep_largest(smooth_slices(logits.clone(), 3), [1])
    assert torch.equal(CleanVolume(cleaning)(logits.clone()), expected)
    assert torch.equal(CleanVolumed("pred", cleaning)({"pred": logits.clone()})["pred"], expected)
    assert CleanVolume()(logits) is logits
    with torch.inference_mode():
        served = logits.clone()
    assert torch.equal(CleanVolume(cleaning)(served), expected), "outside that mode"
