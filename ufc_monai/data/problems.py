"""What can be odd about a volume, in plain sentences, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ufc_monai.transforms.grid import grids_apart
from ufc_monai.transforms.labels import is_id

__all__ = ["ADVICE", "LEAVE_OUT", "Grid", "Problem", "grid_problems", "hu_problems", "label_problems"]

ADVICE = {
    "unreadable": "Nothing can be trained until it is mended.",
    "label unreadable": "Nothing can be trained until it is mended.",
    "other grid": "Export one of them anew, so that both lie on one grid.",
    "flipped label": "Write the label anew with the image's header: training would learn a mirrored label.",
    "label elsewhere": "Image and label are matched voxel by voxel; look at the preview whether they fit.",
    "no label": "Export the label anew, by the nearest voxel where it is resampled.",
    "unnamed ids": "Name them in --labels, or make them background with --background_labels.",
    "empty label": "If nobody has drawn it yet, take the label file away: the volume then counts as unlabelled.",
    "same content": "Remove one of them: one scan under two patients' names leaks from training into the test.",
    "same content, same patient": "Remove one of them: it counts twice.",
    "8-bit": "Pictures are such: choose the --window to match, or --preset isic for those in colour. For CT, find the "
    "original volumes.",
    "clipped": "A window that reaches beyond that range wastes contrast: choose the --window within it.",
    "not HU": "For CT, apply the rescale slope and intercept; for anything else choose the --window to match.",
    "impossible HU": "Check its rescale slope and intercept; padding is best written as -1024.",
    "few slices": "Check that it is no localiser or screenshot.",
    "odd spacing": "Check its header, and that it is the same kind of scan.",
}
"""What to do about each kind of problem."""
LEAVE_OUT = "Or go on without such volumes: --skip_bad True."
"""What else can be done about a bad file."""
BLOCKING = {"unreadable", "label unreadable", "other grid", "flipped label", "no label", "unnamed ids", "same content"}
"""Kinds that stop training, or make it learn nonsense."""
BAD_FILES = {"unreadable", "label unreadable", "other grid", "flipped label", "no label"}
"""Kinds that are of one volume's files alone, so that one may go on without it."""
AIR = -200.0
"""A CT scan holds air, -1000 HU, around or within the body; one without anything below this was clipped."""
POSSIBLE_HU = (-5000.0, 35000.0)
MOST_IDS = 1000
"""With more values than that, a file is no label."""


@dataclass(frozen=True)
class Problem:
    """Something odd about one volume.

    Attributes:
        kind: one of the keys of :data:`ADVICE`.
        text: a plain sentence, without the name of the image.
    """

    kind: str
    text: str

    @property
    def blocking(self) -> bool:
        """Whether training would stop at it, or learn nonsense from it."""
        return self.kind in BLOCKING

    @property
    def bad_file(self) -> bool:
        """Whether the volume's files are bad, and ``skip_bad`` leaves it out."""
        return self.kind in BAD_FILES


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

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of voxels along the patient's axes right, front and head, mm."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())


def hu_problems(low: float, high: float) -> list[Problem]:
    """What the range of an image's values tells.

    Args:
        low: smallest value.
        high: largest value.
    """
    if low >= 0 and high <= 255:
        return [Problem("8-bit", f"its values, {low:g} to {high:g}, look like 8-bit grey values, not HU.")]
    if low < POSSIBLE_HU[0] or high > POSSIBLE_HU[1]:
        return [Problem("impossible HU", f"its values, {low:g} to {high:g}, are impossible for HU.")]
    if low >= 0:
        return [
            Problem("not HU", f"no value is below 0 ({low:g} to {high:g}): these are no HU, in which air is -1000.")
        ]
    if low > AIR:
        text = f"looks clipped to a window: nothing outside [{low:g},{high:g}] can be recovered."
        return [Problem("clipped", text)]
    return []


def grid_problems(image: Grid, label: Grid) -> list[Problem]:
    """How a label lies to its image."""
    if image.stored_shape != label.stored_shape:
        stored = " and ".join("x".join(map(str, grid.stored_shape)) for grid in (label, image))
        return [Problem("other grid", f"its label has another shape than the image: {stored} voxels.")]
    apart = grids_apart(image.affine, label.affine, image.shape)
    if apart is None:
        return []
    if image.orientation != label.orientation:
        text = f"its label is stored as {label.orientation}, the image as {image.orientation}, and they do not meet."
        return [Problem("flipped label", text)]
    return [Problem("label elsewhere", f"by their headers, its label lies up to {apart:.1f} mm beside the image.")]


def label_problems(voxels: Mapping[float, int], claimed: Collection[int] | None) -> list[Problem]:
    """What the values of a label tell.

    Args:
        voxels: number of voxels of each value.
        claimed: the ids that mean something, 0 among them; ``None`` if that is not known.
    """
    strange = [value for value in voxels if not is_id(value)]
    if strange or len(voxels) > MOST_IDS:
        return [Problem("no label", f"its label holds values that are no ids: {_few(strange or list(voxels))}.")]
    if not any(voxels):
        return [Problem("empty label", "its label is empty.")]
    unnamed = [value for value in voxels if claimed is not None and value not in claimed]
    return [Problem("unnamed ids", f"its label holds ids without a name: {_few(unnamed)}.")] if unnamed else []


def _few(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in sorted(values)[:5])
    return shown if len(values) <= 5 else f"{shown}, ... ({len(values)} of them)"
