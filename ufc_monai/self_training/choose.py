"""Which of a teacher's predictions are sure enough to be learned: the maths of a round, without files or networks.

Confidences are whole numbers, 0 to 255, so that the cut of a class can be found from a histogram over all volumes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.transforms.clean import keep_largest, smooth_slices
from ufc_monai.transforms.labels import IGNORE

LEVELS = 256
"""Confidences are kept as whole numbers below this."""


class Predicted(NamedTuple):
    """What a teacher says of a volume, (H, W, D) uint8 each.

    Attributes:
        classes: the likeliest class, smoothed and cleaned.
        confidence: its probability times 255; where it is background, that of ``rival``.
        rival: the likeliest class but background.
        apart: 1 where cleaning has taken a piece away.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]
    rival: NDArray[np.uint8]
    apart: NDArray[np.uint8]


class Cuts(NamedTuple):
    """Between what is learned and what is ignored, (classes,) each, 0 to 255; those of background mean nothing.

    Attributes:
        low: the lowest confidence with which a voxel of the class is learned.
        high: the highest confidence of the class with which background is learned.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """How sure a prediction must be.

    Attributes:
        keep: the share of a class's voxels, pooled over all volumes, that is kept: the surest, in (0, 1].
        least: the probability that a kept voxel has at least, in [0, 1).
        missing: of a class of which fewer voxels are predicted than its share in the labelled volumes leads one to
            expect, so many times the missing voxels are ignored: the background that is likeliest to be it. At least 0.
    """

    keep: float = 0.8
    least: float = 0.5
    missing: float = 4.0

    def cuts(self, histograms: NDArray[np.int64], shares: NDArray[np.float64]) -> Cuts:
        """Where to cut, for each class: pooled, so that a small, unsure organ is not drowned by a large, sure one.

        Args:
            histograms: (2, classes, 256), see :func:`confidences`.
            shares: of the pixels of the labelled volumes that each class has, (classes,).
        """
        inside, beside = histograms
        at_least = inside[:, ::-1].cumsum(axis=1)[:, ::-1]
        highest = _highest(at_least >= self.keep * at_least[:, :1])
        low = np.maximum(highest, round(self.least * (LEVELS - 1)))
        missing = self.missing * np.maximum(0, shares * inside.sum() - inside.sum(axis=1))
        level = _highest(beside[:, ::-1].cumsum(axis=1)[:, ::-1] >= missing[:, None])
        return Cuts(low, np.minimum(LEVELS - 1 - low, np.where(missing > 0, level - 1, LEVELS)))


def _highest(levels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The highest level of each row that is true; 0 where none is."""
    return np.where(levels.any(axis=1), LEVELS - 1 - levels[:, ::-1].argmax(axis=1), 0)


def predicted(logits: Tensor, connected: Sequence[int]) -> Predicted:
    """Smooth and clean what a teacher says of a volume.

    Args:
        logits: (classes, H, W, D); they are changed.
        connected: classes of one piece.
    """
    probabilities = smooth_slices(logits)  # in place
    seen = probabilities.argmax(dim=0)
    cleaned = keep_largest(probabilities, connected)
    classes = cleaned.argmax(dim=0)
    rival = 1 + cleaned[1:].argmax(dim=0)
    confidence = cleaned.gather(0, torch.where(classes > 0, classes, rival)[None])[0]
    parts = (classes, (confidence * (LEVELS - 1)).round(), rival, seen != classes)
    return Predicted(*(part.cpu().numpy().astype(np.uint8) for part in parts))


def confidences(found: Predicted, n_classes: int) -> NDArray[np.int64]:
    """How many voxels of a volume have which confidence: all by their class, background by its rival.

    Returns:
        (2, classes, 256).
    """
    background = found.classes == 0
    pairs = (found.classes, found.confidence), (found.rival[background], found.confidence[background])
    cells = (classes.astype(np.int64) * LEVELS + levels for classes, levels in pairs)
    counts = (np.bincount(some.ravel(), minlength=n_classes * LEVELS) for some in cells)
    return np.stack([count.reshape(n_classes, LEVELS) for count in counts])


def chosen_labels(found: Predicted, cuts: Cuts, off: Collection[int] = ()) -> NDArray[np.uint8]:
    """The labels that a volume is learned by; what is not sure is ignored, and never background.

    The rule has two sides: a voxel of a class below the class's cut is ignored, and so is one of background where the
    rival's probability exceeds 1 - cut. With the first side alone organs shrink from round to round, since their rims
    are left out and the background beside them is not. Of a class that is predicted too seldom more background is
    ignored, or what the teacher misses would be learned as background.

    Args:
        found: of the volume.
        cuts: see :meth:`Choice.cuts`.
        off: classes that are not learned from predictions at all; wherever they might be is ignored.

    Returns:
        (H, W, D): a class, or :data:`IGNORE`.
    """
    high = cuts.high.copy()
    high[list(off)] = 0
    below = found.confidence < cuts.low[found.classes]
    unsure = np.where(found.classes > 0, below, found.confidence > high[found.rival])
    left = unsure | (found.apart > 0) | np.isin(found.classes, list(off))
    return np.where(left, np.uint8(IGNORE), found.classes)


def overlap(one: NDArray[np.uint8], other: NDArray[np.uint8], n_classes: int) -> NDArray[np.int64]:
    """Voxels of each class in both, in the one and in the other: (3, classes)."""
    counts = (
        np.bincount(labels.ravel(), minlength=n_classes)[:n_classes] for labels in (one[one == other], one, other)
    )
    return np.stack(list(counts))


def dice_of(overlaps: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each class by :func:`overlap`, which may be summed over volumes; NaN where neither holds the class."""
    both, one, other = overlaps
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / (one + other))
