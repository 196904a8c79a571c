"""What of a teacher's predictions is learned: cuts against their definition, and the two sides of the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ufc_monai.self_training.choose import (
    LEVELS,
    Choice,
    Cuts,
    Predicted,
    chosen_labels,
    confidences,
    dice_of,
    overlap,
    predicted,
)


def random_prediction(seed: int, n_classes: int = 4) -> Predicted:
    rng = np.random.default_rng(seed)
    shape = (12, 10, 6)
    classes = rng.integers(0, n_classes, shape).astype(np.uint8)
    rival = rng.integers(1, n_classes, shape).astype(np.uint8)
    return Predicted(classes, rng.integers(0, 256, shape).astype(np.uint8), rival, np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("keep", [0.3, 0.8, 1.0])
def test_a_cut_keeps_the_surest_share_of_each_class(keep: float) -> None:
    found = [random_prediction(seed) for seed in range(3)]
    cuts = Choice(keep, least=0.0, missing=0).cuts(np.sum([confidences(f, 4) for f in found], axis=0), np.full(4, 0.25))
    for c in range(4):
        values = np.concatenate([f.confidence[f.classes == c] for f in found])
        enough = [cut for cut in range(LEVELS) if (values >= cut).mean() >= keep]
        assert cuts.low[c] == max(enough)
    assert np.array_equal(cuts.high, 255 - cuts.low)


def test_no_cut_is_below_the_least_and_an_absent_class_keeps_nothing() -> None:
    histograms = np.zeros((2, 3, LEVELS), dtype=np.int64)
    histograms[0, 1, 20] = 5
    assert Choice(0.8, least=0.5).cuts(histograms, np.zeros(3)).low.tolist()[1:] == [128, 255]


@pytest.mark.parametrize("times", [0.5, 1.0, 4.0, 1000.0])
def test_background_likeliest_to_be_what_is_missing_is_ignored(times: float) -> None:
    """Class 3 should have half of all voxels, class 1 and 2 have more than theirs already."""
    found, shares = [random_prediction(seed) for seed in range(3)], np.array([0.3, 0.1, 0.1, 0.5])
    plain, cuts = (
        Choice(missing=m).cuts(np.sum([confidences(f, 4) for f in found], axis=0), shares) for m in (0.0, times)
    )
    labels = [chosen_labels(f, cuts) for f in found]
    beside = np.concatenate([f.confidence[(f.classes == 0) & (f.rival == 3)] for f in found])
    ignored = sum(
        int(((x == 255) & (f.classes == 0) & (f.rival == 3)).sum()) for x, f in zip(labels, found, strict=True)
    )
    lacking = times * (0.5 * 3 * 720 - sum(int((f.classes == 3).sum()) for f in found))
    assert ignored >= min(lacking, len(beside))
    assert ignored == len(beside) or (beside > cuts.high[3] + 1).sum() < max(
        lacking, (beside > plain.high[3] + 1).sum()
    )
    assert np.array_equal(cuts.high[1:3], plain.high[1:3])
    assert np.array_equal(cuts.low, plain.low)


def test_what_is_not_sure_is_ignored_on_both_sides_and_never_background() -> None:
    found = random_prediction(0)
    low, high = np.array([0, 100, 180, 255]), np.array([0, 155, 20, 0])
    label = chosen_labels(found, Cuts(low, high))
    for at in np.ndindex(found.classes.shape):
        c, confidence, rival = found.classes[at], found.confidence[at], found.rival[at]
        sure = confidence >= low[c] if c else confidence <= high[rival]
        assert label[at] == (c if sure else 255)


def test_pieces_taken_away_and_classes_switched_off_are_ignored() -> None:
    found = random_prediction(1)
    found.apart[:3] = 1
    label = chosen_labels(found, Cuts(np.zeros(4, dtype=np.int64), np.full(4, 255)), off=[2])
    assert (label[:3] == 255).all()
    assert (label[3:][found.classes[3:] == 2] == 255).all()
    assert (label[3:][(found.classes[3:] == 0) & (found.rival[3:] == 2) & (found.confidence[3:] > 0)] == 255).all()
    assert np.array_equal(label[3:][found.classes[3:] == 1], found.classes[3:][found.classes[3:] == 1])


def test_a_teacher_is_smoothed_and_cleaned() -> None:
    scores = torch.zeros(3, 6, 6, 5)
    scores[1, 1:4, 1:4] = 8
    scores[1, 5, 5, 2:4] = 9
    scores[2, 4, 0, 2] = 3
    found = predicted(scores.clone(), connected=[1])
    assert found.apart[5, 5, 2] == 1
    assert found.classes[5, 5, 2] == 0
    assert found.classes[2, 2, 2] == 1
    assert found.apart[2, 2, 2] == 0
    alone = torch.softmax(scores[:, 4, 0, 1:4], dim=0).mean(dim=1)
    assert found.classes[4, 0, 2] == alone.argmax()
    assert found.rival[4, 0, 2] == 2
    assert found.confidence[4, 0, 2] == round(255 * float(alone.max()))


def test_dice_is_pooled() -> None:
    one, other = (np.random.default_rng(i).integers(0, 3, (8, 8, 3)).astype(np.uint8) for i in (0, 1))
    halves = overlap(one[:4], other[:4], 4) + overlap(one[4:], other[4:], 4)
    expected = [2 * ((one == c) & (other == c)).sum() / ((one == c).sum() + (other == c).sum()) for c in range(3)]
    found = dice_of(halves)
    assert found[:3].tolist() == pytest.approx(expected)
    assert np.isnan(found[3])
