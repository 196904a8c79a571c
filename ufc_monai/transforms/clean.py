"""What a stack of 2D predictions gains from being a volume: neighbouring slices agree, and an organ is in one piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
Cleaning = Mapping[str, Any] | Callable[[], Mapping[str, Any] | None] | None


class CleanVolume(Transform):
    """Average the classes' probabilities over neighbouring slices, then keep the largest piece of some classes.

    The logits of a large volume are the largest thing in memory: they are changed in place.

    Args:
        cleaning: ``slices``, how many are averaged, and ``connected``, the classes of one piece, as in
            ``network.json``; ``None`` changes nothing. Or what returns that, asked for each volume: a server trains
            new weights while it runs.

    Example:
        >>> logits = torch.randn(3, 8, 8, 5)
        >>> CleanVolume({"slices": 3, "connected": [2]})(logits).shape
        torch.Size([3, 8, 8, 5])
    """

    def __init__(self, cleaning: Cleaning = None) -> None:
        self.cleaning = cleaning

    @torch.inference_mode()  # a server hands over what only that mode may change
    def __call__(self, logits: Tensor) -> Tensor:
        """Clean a volume.

        Args:
            logits: (classes, H, W, D), the last axis from slice to slice, background first.

        Returns:
            Scores of the same shape; the class of a voxel is the one with the highest.
        """
        cleaning = self.cleaning() if callable(self.cleaning) else self.cleaning
        if cleaning is None:
            return logits
        return keep_largest(smooth_slices(logits, cleaning["slices"]), cleaning["connected"])


class CleanVolumed(Twin):
    """Dictionary form of :class:`CleanVolume`.

    Args:
        keys: of the predictions.
        cleaning: see :class:`CleanVolume`.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(self, keys: KeysCollection, cleaning: Cleaning = None, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, CleanVolume(cleaning), allow_missing_keys)


def smooth_slices(logits: Tensor, slices: int = 3) -> Tensor:
    """Probabilities, averaged over neighbouring slices, in place of the logits.

    Args:
        logits: (classes, H, W, D) float32.
        slices: how many, an odd number; at the ends of the volume those that exist.
    """
    logits.sub_(logits.amax(dim=0)).exp_().div_(logits.sum(dim=0))
    reach = range(1, slices // 2 + 1)
    n = torch.ones(logits.shape[-1], device=logits.device)
    for k in reach:
        n[k:] += 1
        n[:-k] += 1
    for of_class in logits:
        single = of_class.clone()
        for k in reach:
            of_class[..., k:] += single[..., :-k]
            of_class[..., :-k] += single[..., k:]
        of_class /= n
    return logits


def keep_largest(scores: Tensor, classes: Sequence[int]) -> Tensor:
    """Of some classes keep the largest piece; where another falls away, class and background exchange their scores.

    Pieces touch by faces. It works on scores, in place, so that it can stand before they are brought back to the scan's
    grid.

    Args:
        scores: (classes, H, W, D), background first.
        classes: which, each 1 or more.

    Example:
        >>> scores = torch.eye(2)[torch.tensor([1, 1, 0, 1])].T.reshape(2, 4, 1, 1)
        >>> keep_largest(scores, [1]).argmax(dim=0).flatten()
        tensor([1, 1, 0, 0])
    """
    winner = scores.argmax(dim=0)
    for c in classes:
        apart = torch.from_numpy(_apart((winner == c).cpu().numpy())).to(scores.device)
        background = scores[0].clone()
        scores[0] = torch.where(apart, scores[c], background)
        scores[c] = torch.where(apart, background, scores[c])
    return scores


def largest_share(mask: NDArray[Any]) -> float:
    """The share of a mask's pixels that its largest piece holds; 1 of an empty mask.

    Args:
        mask: (H, W, D) bool.
    """
    return 1.0 - float(_apart(mask).sum() / max(1, mask.sum()))


def _apart(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """What of a mask lies apart from its largest piece."""
    apart = np.zeros(mask.shape, dtype=bool)
    if box := next(iter(ndimage.find_objects(mask.astype(np.uint8))), None):  # most are small in their volume
        pieces, _ = ndimage.label(mask[box])
        apart[box] = (pieces > 0) & (pieces != np.bincount(pieces.ravel())[1:].argmax() + 1)
    return apart
