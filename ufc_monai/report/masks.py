"""Masks in three planes: cut out where masks are made, kept in one file, and drawn for the report."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, write_arrays
from ufc_monai.report.drawing import shortened
from ufc_monai.report.slices import SIDE, Overlay, black_figure, show

Planes = Mapping[int, Sequence[Overlay]]
"""By class, the planes through it: axial, coronal and sagittal; of a picture the picture."""
LEFT = {"axial": "R", "coronal": "R", "sagittal": "A"}
"""What lies on the left of each plane."""
HIGHEST = 1.3 * SIDE
"""Height of a plane, inches, beyond which it is drawn smaller."""
LONGEST = 400
"""Pixels of a plane's longer side, beyond which some are left out."""
SEEN = 0.25
"""The share of a structure's largest axial area from which on it counts as seen in another plane."""


def planes_through(
    image: NDArray[Any], reference: NDArray[Any] | None, prediction: NDArray[Any], spacing: Sequence[float]
) -> dict[int, list[Overlay]]:
    """Cut a volume where each structure is largest: of the reference, or of the prediction if there is none.

    Args:
        image: (x, y, z) or (x, y, z, 3) in RAS orientation, in [0, 1].
        reference: class map, (x, y, z).
        prediction: the same of the network.
        spacing: of the three axes.
    """
    marked, found = prediction if reference is None else reference, {}
    for structure in np.unique(marked[marked > 0]).tolist():
        mask = marked == structure
        cuts = []
        for axis, name in zip((2, 1, 0), LEFT, strict=True):
            at = int(mask.sum(axis=tuple({0, 1, 2} - {axis})).argmax())
            across, up = (s for i, s in enumerate(spacing) if i != axis)
            image_there, predicted = (_thinned(x.take(at, axis=axis)) for x in (image, prediction))
            labelled = None if reference is None else _thinned(reference.take(at, axis=axis))
            cuts.append(Overlay(name, image_there, labelled, predicted, up / across))
        found[structure] = cuts[: 1 if image.shape[2] == 1 else 3]
    return found


def _thinned(plane: NDArray[Any]) -> NDArray[Any]:
    step = math.ceil(max(plane.shape[:2]) / LONGEST)
    return plane[::step, ::step]


def save_planes(path: str | os.PathLike[str], volumes: Mapping[str, Planes]) -> None:
    """Write planes to an npz file, whole or not at all.

    Args:
        path: the file.
        volumes: by the names of the volumes, in their order.
    """
    arrays: dict[str, Any] = {"names": np.array(list(volumes), dtype=str)}
    for i, planes in enumerate(volumes.values()):
        for structure, cuts in planes.items():
            for j, cut in enumerate(cuts):
                key = f"{i} {structure} {j}"
                arrays[f"{key} aspect"] = np.array(cut.aspect)
                arrays[f"{key} image"] = np.round(255 * np.clip(cut.image, 0, 1)).astype(np.uint8)
                masks = {"reference": cut.reference, "prediction": cut.prediction}
                arrays |= {f"{key} {part}": mask.astype(np.uint8) for part, mask in masks.items() if mask is not None}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        write_arrays(file, arrays, compressed=True)


def read_planes(path: Path) -> dict[str, dict[int, list[Overlay]]]:
    """The planes of each volume in such a file; none if there is no file.

    Raises:
        InputError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path) as file:
            names, arrays = file["names"].tolist(), {key: file[key] for key in file.files if key != "names"}
        volumes: dict[str, dict[int, list[Overlay]]] = {name: {} for name in names}
        for key in sorted(key.removesuffix(" image") for key in arrays if key.endswith(" image")):
            i, structure, j = map(int, key.split())
            reference, prediction = (arrays.get(f"{key} {part}") for part in ("reference", "prediction"))
            image, aspect = arrays[f"{key} image"] / 255, float(arrays[f"{key} aspect"])
            cut = Overlay([*LEFT][j], image, reference, prediction, aspect)
            volumes[names[i]].setdefault(structure, []).append(cut)
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as e:
        raise InputError(f"{path} is damaged ({type(e).__name__}: {e}). Delete it, or test and segment again.") from e
    return volumes


def shown_in(planes: Planes, structure: int) -> list[tuple[int, int]]:
    """The planes to show, as structure and number: those through one structure, then axial ones until all are seen."""
    chosen = [(structure, j) for j in range(len(planes[structure]))]
    for other, (axial, *_) in planes.items():
        full = _area(axial, other)
        if all(_area(planes[s][j], other) < SEEN * full for s, j in chosen):
            chosen.append((other, 0))
    return chosen


def _area(cut: Overlay, structure: int) -> int:
    mask = cut.prediction if cut.reference is None else cut.reference
    return int(np.count_nonzero(mask == structure))


def draw_masks(arms: Mapping[str, Planes], structure: int, names: Sequence[str]) -> Figure:
    """Draw planes of a volume, a row each: the reference, or the image alone, and beside it the predictions.

    Args:
        arms: the same planes with the prediction of each arm, by its title; the first says which are shown.
        structure: the class that three planes go through.
        names: of the classes 1..n, for the legend.
    """
    own = next(iter(arms.values()))
    chosen = shown_in(own, structure)
    heights = [SIDE * cut.image.shape[1] * cut.aspect / cut.image.shape[0] for cut in (own[s][j] for s, j in chosen)]
    heights = [min(height, HIGHEST) for height in heights]
    figure, grid = black_figure(heights, 1 + len(arms), SIDE * (1 + len(arms)), 0.05, names)
    for row, (s, j) in zip(grid, chosen, strict=True):
        for k, (axes, title, planes) in enumerate(zip(row, ["", *arms], [own, *arms.values()], strict=True)):
            cut, in_space = planes[s][j], len(own[structure]) > 1
            show(axes, cut, cut.prediction if k else cut.reference, len(names))
            _write(axes, 0.98, 0.02, title or ("image" if cut.reference is None else "reference"), "right", "bottom")
            _write(axes, 0.01, 0.5, LEFT[cut.title] * in_space, "left", "center")
            _write(axes, 0.02, 0.98, f"{cut.title}: {shortened(names[s - 1], 24)}" * in_space, "left", "top")
    return figure


def _write(axes: Axes, x: float, y: float, text: str, across: str, up: str) -> None:
    """Write on a picture, on a ground that is dark whatever is there."""
    ground = {"facecolor": "black", "alpha": 0.5, "pad": 1, "edgecolor": "none"} if text else None
    axes.text(x, y, text, color="white", fontsize=11, ha=across, va=up, transform=axes.transAxes, bbox=ground)
