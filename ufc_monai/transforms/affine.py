"""Where the pixels of an augmented image lie: to match pixels of two views, and to undo an augmentation on features.

An affine (B, 2, 3) maps the coordinates of the pixels of a batch to those of another, in :func:`grid_sample`'s square
from -1 to 1 (x along the second axis of an image, then y), which images and their features of any size share.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sampling_grid(affine: Tensor, size: Sequence[int]) -> Tensor:
    """The grid (B, H, W, 2) that :func:`torch.nn.functional.grid_sample` takes (``align_corners=False``).

    Args:
        affine: (B, 2, 3).
        size: H and W of what is sampled at the grid.
    """
    return F.affine_grid(affine, [len(affine), 1, *size], align_corners=False)


def inverse_affine(affine: Tensor) -> Tensor:
    """Where each pixel of the original lies in the augmented image, (B, 2, 3): sampling there undoes it."""
    matrix = torch.linalg.inv_ex(affine[..., :2]).inverse  # does not wait for a GPU, as inv does
    return torch.cat([matrix, -matrix @ affine[..., 2:]], dim=2)


def affine_between(view: Tensor, other: Tensor) -> Tensor:
    """Where each pixel of a view lies in another view of the same images, (B, 2, 3).

    Args:
        view: affines of the views, (B, 2, 3).
        other: of the other views.

    Example:
        >>> from ufc_monai.transforms import BatchAugment, TwoViews
        >>> views, affines = TwoViews(BatchAugment(rotation=20, flip=0.5)).located(torch.rand(4, 1, 32, 32))
        >>> grid = sampling_grid(affine_between(*affines.chunk(2)), (32, 32))
        >>> like_the_first = F.grid_sample(views[4:], grid, align_corners=False)
        >>> seen_by_both = (grid.abs() <= 1).all(dim=3)
    """
    back = inverse_affine(other)
    return torch.cat([back[..., :2] @ view[..., :2], back[..., :2] @ view[..., 2:] + back[..., 2:]], dim=2)
