"""Where voxels lie: the check of an affine, and what can be wrong with where a label lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray

nib, _ = optional_import("nibabel")

TOLERANCE = 0.5
"""How far apart grids may lie that count as one, as a share of the smallest spacing."""
GRID_ADVICE = {
    "other grid": "Export one of them again, so that both lie on one grid.",
    "flipped label": "Write the label again with the image's header: training would learn a mirrored label.",
    "label elsewhere": "Image and label are matched voxel by voxel; check on the preview that they fit.",
}
"""What to do about each kind of :func:`label_fault`."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        stored_shape: as in the file.
        orientation: of the file's axes, e.g. ``"LPS"``.
        shape: along the patient's axes right, front and head.
        affine: (4, 4), of those axes, mm.
    """

    stored_shape: tuple[int, ...]
    orientation: str
    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, affine: Any, shape: Sequence[int]) -> Grid:
        """The grid of a file, by its affine (4, 4) and its shape."""
        affine = np.asarray(affine, dtype=np.float64)
        turn = nib.io_orientation(affine)
        turned = affine @ nib.orientations.inv_ornt_aff(turn, tuple(shape))
        axes = "".join(nib.aff2axcodes(affine))
        return cls(tuple(shape), axes, tuple(shape[i] for i in np.argsort(turn[:, 0])), turned)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of voxels along the patient's axes right, front and head, mm."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())


def is_invertible(affine: NDArray[Any]) -> bool:
    """Whether an affine (4, 4) is finite and gives every voxel a place of its own."""
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def label_fault(image: Grid, label: Grid) -> tuple[str, str] | None:
    """What is wrong with where a label lies: one of the kinds of :data:`GRID_ADVICE`, and what the label does.

    A label that lies elsewhere by its header alone can be used; the others cannot.
    """
    if image.stored_shape != label.stored_shape:
        stored = " and ".join("x".join(map(str, grid.stored_shape)) for grid in (label, image))
        return "other grid", f"has another shape than the image: {stored} voxels"
    # the first voxel, and the last one along each axis
    apart = float(np.abs((image.affine - label.affine)[:3] * [*image.shape, 1]).max())
    if apart <= TOLERANCE * min(image.spacing):
        return None
    if image.orientation != label.orientation:
        return "flipped label", f"is stored as {label.orientation}, the image as {image.orientation}, on another grid"
    return "label elsewhere", f"lies up to {apart:.1f} mm from the image by its header"
