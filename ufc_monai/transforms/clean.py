"""What a stack of 2D predictions gains from being a volume: neighbouring slices agree, and an organ is in one piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import Transform
from monai.utils import optional_import
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.transforms.twin import Twin

ndimage, _ = optional_import("scipy.ndimage")


class SmoothSlices(Transform):
    """Average the probabilities of the classes over neighbouring slices.

    Args:
        slices: how many, an odd number; at the ends of the volume those that exist.

    Example:
        >>> logits = torch.randn(3, 8, 8, 5)
        >>> SmoothSlices()(logits).sum(dim=0).allclose(torch.ones(8, 8, 5))
        True
    """

    def __init__(self, slices: int = 3) -> None:
        self.slices = slices

    def __call__(self, logits: Tensor) -> Tensor:
        """Smooth one volume.

        Args:
            logits: (classes, H, W, D), the last axis from slice to slice.

        Returns:
            Probabilities of the same shape.
        """
        probabilities = logits.float().softmax(dim=0)
        total, n = probabilities.clone(), torch.ones(logits.shape[-1], device=logits.device)
        for k in range(1, self.slices // 2 + 1):
            total[..., k:] += probabilities[..., :-k]
            total[..., :-k] += probabilities[..., k:]
            n[k:] += 1
            n[:-k] += 1
        return total / n


class SmoothSlicesd(Twin):
    """Dictionary form of :class:`SmoothSlices`.

    Args:
        keys: of the predictions.
        slices: see :class:`SmoothSlices`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(self, keys: KeysCollection, slices: int = 3, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, SmoothSlices(slices), allow_missing_keys)


class KeepLargest(Transform):
    """Of some classes keep the largest piece of the volume; what lies apart becomes background.

    Pieces touch by faces. It works on scores, so that it can stand before they are brought back to the scan's grid:
    where a piece falls away, the class and the background exchange their scores.

    Args:
        classes: which, each 1 or more; those that are one piece in every labelled scan, see :func:`largest_share`.

    Example:
        >>> scores = torch.eye(2)[torch.tensor([1, 1, 0, 1])].T.reshape(2, 4, 1, 1)
        >>> KeepLargest([1])(scores).argmax(dim=0).flatten()
        tensor([1, 1, 0, 0])
    """

    def __init__(self, classes: Sequence[int]) -> None:
        self.classes = tuple(classes)

    def __call__(self, scores: Tensor) -> Tensor:
        """Clean one volume.

        Args:
            scores: (classes, H, W, D): logits or probabilities, background first.

        Returns:
            The same scores but for the exchanged ones.
        """
        winner = scores.argmax(dim=0)
        cleaned = scores.clone()
        for c in self.classes:
            apart = torch.from_numpy(_apart((winner == c).cpu().numpy())).to(scores.device)
            cleaned[0] = torch.where(apart, scores[c], cleaned[0])
            cleaned[c] = torch.where(apart, scores[0], cleaned[c])
        return cleaned


class KeepLargestd(Twin):
    """Dictionary form of :class:`KeepLargest`.

    Args:
        keys: of the predictions.
        classes: see :class:`KeepLargest`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(self, keys: KeysCollection, classes: Sequence[int], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, KeepLargest(classes), allow_missing_keys)


def largest_share(mask: NDArray[Any]) -> float:
    """The share of a mask's pixels that its largest piece holds; 1 of an empty mask.

    Args:
        mask: (H, W, D) bool.
    """
    return 1.0 - float(_apart(mask).sum() / max(1, mask.sum()))


def _apart(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """What of a mask lies apart from its largest piece."""
    pieces, n = ndimage.label(mask)
    if n < 2:
        return np.zeros(mask.shape, dtype=bool)
    return np.asarray((pieces > 0) & (pieces != np.bincount(pieces.ravel())[1:].argmax() + 1))
