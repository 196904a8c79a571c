"""Where voxels lie: the check of an affine, and how far two grids are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray

nib, _ = optional_import("nibabel")

TOLERANCE = 0.5
"""How far grids may be apart that count as one, as a share of the smallest spacing."""


def is_invertible(affine: NDArray[Any]) -> bool:
    """Whether an affine (4, 4) is finite and gives every voxel a place of its own."""
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def ras_grid(affine: NDArray[Any], shape: Sequence[int]) -> tuple[str, tuple[int, ...], NDArray[np.float64]]:
    """How a stored volume lies: its axes, such as ``"LPS"``; shape and affine once they are turned to the patient's.

    The patient's axes run right, front and head.
    """
    turn = nib.io_orientation(affine)
    turned: NDArray[np.float64] = affine @ nib.orientations.inv_ornt_aff(turn, tuple(shape))
    return "".join(nib.aff2axcodes(affine)), tuple(shape[i] for i in np.argsort(turn[:, 0])), turned


def grids_apart(image: NDArray[Any], label: NDArray[Any], shape: Sequence[int]) -> float | None:
    """How far two grids of one shape lie apart, in mm; ``None`` if they count as one.

    Args:
        image: affine of the one, as :func:`ras_grid` gives it.
        label: of the other.
        shape: of both, along the patient's axes.
    """
    # the first voxel, and the last one along each axis
    apart = float(np.abs((image - label)[:3] * [*shape, 1]).max())
    spacing = np.linalg.norm(image[:3, :3], axis=0).min()
    return None if apart <= TOLERANCE * spacing else apart
