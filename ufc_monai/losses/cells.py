"""Pixels of two views matched, and cells of a grid over them: what losses of pixels have in common."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def matched(maps: Tensor, affine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maps of the second views as the first views see them: flip, rotation and crop between the two undone.

    Args:
        maps: (2b, D, H, W); rows i and i + b are of the two views of slice i.
        affine: where each pixel of the first views lies in the second, (b, 2, 3) or longer; the first b count.

    Returns:
        The maps of the first views and those of the second, (b, D, H, W) each, and which pixels both views show,
        (b, H, W) bool.
    """
    first, second = maps.chunk(2)
    return first, *placed_back(second, affine[: len(first)])


def placed_back(maps: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
    """The maps of views as their slices lie: flip, rotation and crop undone.

    Args:
        maps: of the views, (n, D, H, W).
        affine: where each pixel of the slice lies in the view, (n, 2, 3).

    Returns:
        The maps (n, D, H, W), and which pixels of the slice its view shows, (n, H, W) bool.
    """
    grid = F.affine_grid(affine.to(maps.dtype), list(maps.shape), align_corners=False)
    seen = (grid.abs() <= 1).all(dim=3)
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False), seen


def cell_means(maps: Tensor, seen: Tensor | None, grid: int) -> tuple[Tensor, Tensor]:
    """The direction of the mean embedding of each cell, of those of its pixels that are seen.

    Args:
        maps: (b, D, H, W).
        seen: (b, H, W) bool; ``None`` for all.
        grid: cells along each side; they need not be equal, nor apart.

    Returns:
        Unit vectors (b, cells, D), and which cells are seen by half at least, (b, cells) bool.
    """
    known = torch.ones_like(maps[:, :1]) if seen is None else seen[:, None].to(maps.dtype)
    means = F.adaptive_avg_pool2d(maps * known, grid).flatten(2).transpose(1, 2)
    return F.normalize(means, dim=2), F.adaptive_avg_pool2d(known, grid).flatten(1) >= 0.5


def cells_of(maps: Tensor, size: int) -> Tensor:
    """All pixels of each cell of a map behind each other, (b, cells, D * size * size); a rest at the border is left.

    Args:
        maps: (b, D, H, W).
        size: side of a cell in pixels.
    """
    return F.unfold(maps, kernel_size=size, stride=size).transpose(1, 2)
