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


@dataclass(frozen=True)
class Choice:
    """How sure a prediction must be.

    Attributes:
        keep: the share of a class's voxels, pooled over all volumes, that is kept: the surest, in (0, 1].
        least: the probability that a kept voxel has at least, in [0, 1).
    """

    keep: float = 0.8
    least: float = 0.5

    def cuts(self, histogram: NDArray[np.int64]) -> NDArray[np.int64]:
        """The lowest confidence that is kept of each class.

        Pooled by class, so that a small, unsure organ is not drowned by a large, sure one.

        Args:
            histogram: (classes, 256), see :func:`confidences`.

        Returns:
            (classes,), 0 to 255; that of background means nothing.
        """
        at_least = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
        enough = at_least >= self.keep * at_least[:, :1]
        highest = LEVELS - 1 - enough[:, ::-1].argmax(axis=1)
        return np.asarray(np.maximum(highest, round(self.least * (LEVELS - 1))))


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
    """How many voxels of a volume have which confidence, by class: (classes, 256)."""
    cells = found.classes.astype(np.int64) * LEVELS + found.confidence
    return np.bincount(cells.ravel(), minlength=n_classes * LEVELS).reshape(n_classes, LEVELS)


def chosen_labels(found: Predicted, cuts: NDArray[np.int64], off: Collection[int] = ()) -> NDArray[np.uint8]:
    """The labels that a volume is learned by; what is not sure is ignored, and never background.

    The rule has two sides: a voxel of a class below the class's cut is ignored, and so is one of background where the
    rival's probability exceeds 1 - cut. With the first side alone organs shrink from round to round, since their rims
    are left out and the background beside them is not.

    Args:
        found: of the volume.
        cuts: lowest confidence kept of each class, (classes,).
        off: classes that are not learned from predictions at all; wherever they might be is ignored.

    Returns:
        (H, W, D): a class, or :data:`IGNORE`.
    """
    cuts, inside = cuts.copy(), found.classes > 0
    cuts[list(off)] = LEVELS - 1
    cut = cuts[np.where(inside, found.classes, found.rival)]
    unsure = np.where(inside, found.confidence < cut, found.confidence > LEVELS - 1 - cut)
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
