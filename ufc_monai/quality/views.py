"""What a network makes of a scan that is shifted, scaled and turned a little: where views disagree, masks are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.networks.utils import eval_mode
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.quality.predict import Place, Signs
from ufc_monai.transforms.clean import keep_largest, smooth_slices

Infer = Callable[[Tensor, nn.Module], Tensor]
VIEWS = ((0.0, 1.0, 0.06, -0.06), (8.0, 0.92, 0.0, 0.0), (-8.0, 1.08, 0.0, 0.0))
"""Degrees, side of the seen square, and shift along both axes, as shares of the slice's side."""
FEW_SLICES = 9
"""A volume with fewer is seen whole by each view; of others each sees every third slice, all of them one pass."""
DEEPEST = "down_4"
"""The part of a ``BasicUNet`` whose output, averaged over a slice, tells slices apart."""


@dataclass(frozen=True)
class Seen:
    """A scan as a network sees it, on the network's grid.

    Attributes:
        classes: the cleaned prediction, (H, W, D) uint8.
        signs: of each class but background, in order.
        features: of the slices, as the views show them, (n, d); (0, 0) of an exported network.
        disagreement: how many views say another class, (H, W, D) uint8; ``None`` unless asked for.
    """

    classes: NDArray[np.uint8]
    signs: list[Signs]
    features: NDArray[np.float32]
    disagreement: NDArray[np.uint8] | None = None


@torch.inference_mode()
def look(
    network: nn.Module,
    infer: Infer,
    image: Tensor,
    logits: Tensor | None = None,
    *,
    cleaning: Mapping[str, Any] | None = None,
    voxel: float = 1.0,
    slices_at_once: int = 16,
    disagreement: bool = False,
) -> Seen:
    """Look at a scan again.

    Args:
        network: maps slices (B, C, H, W) to logits (B, classes, H, W); its mode is left as it is found.
        infer: runs it.
        image: (C, H, W, D), as the network takes it.
        logits: of the scan, (classes, H, W, D), if they are known; they stay as they are.
        cleaning: of ``network.json``.
        voxel: volume of a voxel, mm^3.
        slices_at_once: that the network sees.
        disagreement: map where views disagree; each view then sees all slices.
    """
    slices = image.as_subclass(Tensor).permute(3, 0, 1, 2)
    with eval_mode(network):  # MONAI's evaluator has left it by then; batch norms would learn
        if logits is None:
            parts = [infer(part, network) for part in torch.split(slices, slices_at_once)]
            logits = torch.cat(parts).permute(1, 2, 3, 0)
        n = len(logits)
        raw, cleaned, confidence = _predicted(logits, cleaning or {"slices": 1, "connected": ()})
        with _watched(network) as features:
            views = list(_views(slices, network, infer, slices_at_once, whole=disagreement))
    apart, overlaps = torch.zeros_like(raw), []
    for view in views:
        apart[..., view.shown] += view.classes != raw[..., view.shown]
        overlaps.append(_overlaps(raw[..., view.shown[view.counts]], view.classes[..., view.counts], n))
    agreement = [_dice(of_class) for of_class in zip(*overlaps, strict=True)]
    signs = [
        Signs(agreement[c], confidence[c], _lost(raw == c, cleaned == c), place(cleaned == c, voxel))
        for c in range(1, n)
    ]
    seen = torch.cat(features).float() if features else torch.zeros(0, 0)
    arrays = [x.cpu().numpy() for x in (cleaned, seen, apart)]
    return Seen(arrays[0], signs, arrays[1], arrays[2] if disagreement else None)


@contextmanager
def _watched(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the features of the slices that a network sees; none of an exported one, which cannot be looked into."""
    features: list[Tensor] = []
    deepest = None if isinstance(network, torch.jit.ScriptModule) else dict(network.named_modules()).get(DEEPEST)
    if deepest is None:
        yield features
        return
    hook = deepest.register_forward_hook(lambda *args: features.append(args[2].mean((2, 3))))
    try:
        yield features
    finally:
        hook.remove()


class _View(NamedTuple):
    """What a view makes of a scan: the slices that it has been shown, (n,); their classes, (H, W, n); which count."""

    shown: Tensor
    classes: Tensor
    counts: Tensor


def _predicted(logits: Tensor, cleaning: Mapping[str, Any]) -> tuple[Tensor, Tensor, list[float]]:
    """The classes (H, W, D) uint8 before and after cleaning, and the mean probability of each."""
    probabilities = smooth_slices(logits.as_subclass(Tensor).float().clone(), cleaning["slices"])
    raw = probabilities.argmax(dim=0).byte()
    confidence = [float(p[raw == c].mean()) if (raw == c).any() else 0.0 for c, p in enumerate(probabilities)]
    return raw, keep_largest(probabilities, cleaning["connected"]).argmax(dim=0).byte(), confidence


def _views(slices: Tensor, network: nn.Module, infer: Infer, slices_at_once: int, *, whole: bool) -> Iterator[_View]:
    """Show each view its slices, or all of them; only its own count, so that figures are the same either way."""
    step = 1 if len(slices) < FEW_SLICES else len(VIEWS)
    for k, view in enumerate(VIEWS):
        there, back = _affines(*view)
        shown = torch.arange(0 if whole else k % step, len(slices), 1 if whole else step)
        parts = [
            _sampled(infer(_sampled(part, there), network), back).argmax(dim=1)
            for part in torch.split(slices[shown], slices_at_once)
        ]
        yield _View(shown, torch.cat(parts).permute(1, 2, 0).byte(), shown % step == k % step)


def _affines(degrees: float, field: float, x: float, y: float) -> tuple[Tensor, Tensor]:
    """Where the pixels of a view lie in the slice, and those of the slice in the view, (2, 3) each."""
    cosine, sine = (field * f(math.radians(degrees)) for f in (math.cos, math.sin))
    there = torch.tensor([[cosine, -sine, 2 * x], [sine, cosine, 2 * y], [0, 0, 1]])
    return there[:2], torch.linalg.inv(there)[:2]


def _sampled(slices: Tensor, affine: Tensor) -> Tensor:
    size = [len(slices), 1, *slices.shape[2:]]
    grid = F.affine_grid(affine.to(slices).expand(len(slices), 2, 3), size, align_corners=False)
    return F.grid_sample(slices, grid, padding_mode="border", align_corners=False)


def _overlaps(one: Tensor, other: Tensor, n: int) -> list[tuple[int, int]]:
    """Of each class the voxels in both, and the sum of those in each."""
    both, first, second = (torch.bincount(x.flatten(), minlength=n).tolist() for x in (one[one == other], one, other))
    return [(b, f + s) for b, f, s in zip(both, first, second, strict=True)]


def _dice(overlaps: Sequence[tuple[int, int]]) -> float:
    """The mean over those views that show anything of a class; 0 if none does."""
    values = [2 * both / total for both, total in overlaps if total]
    return sum(values) / len(values) if values else 0.0


def _lost(before: Tensor, after: Tensor) -> float:
    return float((before & ~after).sum() / before.sum().clamp(min=1))


def place(mask: Tensor, voxel: float) -> Place:
    """Where a structure is.

    Args:
        mask: (H, W, D) bool.
        voxel: volume of a voxel, mm^3.
    """
    if not mask.any():
        return Place(0.0, (0.5, 0.5, 0.5))
    x, y, z = ((mask.nonzero().double().mean(dim=0) + 0.5).cpu() / torch.tensor(mask.shape)).tolist()
    return Place(float(mask.sum()) * voxel / 1000, (x, y, z))
