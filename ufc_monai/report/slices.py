"""Pictures of slices: what goes into the networks, and what comes out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ufc_monai.report.drawing import class_colours, radiological, save, shortened

FILL, EDGE = 0.3, 0.95
"""Opacity of a structure's area and of its outline."""
SIDE = 3.2
"""Width of an overlay, inches."""
PREVIEWS = 6
"""Previews in a row."""
LONGEST_NAME = 40
"""Letters of a structure's name in a legend."""


@dataclass(frozen=True)
class Overlay:
    """A plane of a volume with structures on it.

    Attributes:
        title: text above it.
        image: (x, y) or (x, y, 3) in RAS orientation, in [0, 1]; of a plane that is not axial two others of x, y, z.
        reference: class of each pixel, 0 for background; ``None`` if there is no label.
        prediction: the same of the network; ``None`` if there is none.
        aspect: height of a pixel over its width.
    """

    title: str
    image: NDArray[Any]
    reference: NDArray[Any] | None
    prediction: NDArray[Any] | None
    aspect: float = 1.0


def save_overlays(
    path: str | os.PathLike[str],
    overlays: Sequence[Overlay],
    names: Sequence[str],
    parts: tuple[str, str] = ("reference", "prediction"),
) -> None:
    """Draw one row an overlay: the image alone, with the reference, with the prediction.

    Args:
        path: PNG file to write.
        overlays: with reference and prediction.
        names: names of the classes 1..n, for the legend.
        parts: what stands under reference and prediction.
    """
    height = SIDE * max(o.image.shape[1] * o.aspect / o.image.shape[0] for o in overlays)
    figure, grid = black_figure([height] * len(overlays), 3, 3 * SIDE, 0.3, names)
    for row, overlay in zip(grid, overlays, strict=True):
        masks = {"": None, **dict(zip(parts, (overlay.reference, overlay.prediction), strict=True))}
        for axes, (part, mask) in zip(row, masks.items(), strict=True):
            show(axes, overlay, mask, len(names))
            axes.text(0.99, 0.01, part, color="white", fontsize=9, ha="right", va="bottom", transform=axes.transAxes)
        row[0].set_title(shortened(overlay.title, 100), color="white", fontsize=10, loc="left", x=0.01)
    save(figure, path)


def save_preview(path: str | os.PathLike[str], previews: Sequence[Overlay], names: Sequence[str]) -> None:
    """Draw one tile a volume, its reference over it.

    Args:
        path: PNG file to write.
        previews: the slices; predictions are not shown.
        names: names of the classes 1..n, for the legend.
    """
    columns, side = min(PREVIEWS, len(previews)), 2.0
    rows = math.ceil(len(previews) / columns)
    figure, grid = black_figure([side] * rows, columns, max(columns, 3) * side, 0.25, names)
    for axes, preview in zip(grid.ravel(), previews, strict=False):
        show(axes, preview, preview.reference, len(names))
        axes.set_title(shortened(preview.title, 26), color="white", fontsize=8, pad=2)
    save(figure, path)


def black_figure(
    heights: Sequence[float], columns: int, width: float, head: float, names: Sequence[str]
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its grid of axes, rows of ``heights`` inches and ``head`` above, with the classes' legend below."""
    # as many columns as the longest name allows, at 0.08 inches a letter and the colour before it
    longest = min(max(map(len, names), default=1), LONGEST_NAME)
    fitting = max(1, min(4, int(width / (0.08 * longest + 0.7))))
    legend = 0.22 * math.ceil(len(names) / fitting) + 0.15 if names else 0.05
    total = sum(heights) + len(heights) * head + legend
    figure = Figure(figsize=(width, total), facecolor="black")
    sides = {"left": 0, "right": 1, "bottom": legend / total, "top": 1 - head / total}
    between = {"hspace": head * len(heights) / sum(heights), "wspace": 0.01, "height_ratios": heights}
    grid = figure.subplots(len(heights), columns, squeeze=False, gridspec_kw=sides | between)
    for axes in grid.ravel():
        axes.set_axis_off()
    patches = [
        Patch(color=tuple(colour), label=shortened(name, LONGEST_NAME))
        for name, colour in zip(names, class_colours(len(names)), strict=True)
    ]
    figure.legend(handles=patches, ncols=fitting, loc="lower center", frameon=False, labelcolor="white", fontsize=9)
    return figure, np.asarray(grid)


def show(axes: Axes, overlay: Overlay, mask: NDArray[Any] | None, n_classes: int) -> None:
    """Draw an overlay's image with one mask over it, or none, as radiologists see it."""
    picture = np.atleast_3d(radiological(np.asarray(overlay.image, dtype=np.float64)).clip(0, 1))
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    if mask is not None:
        picture = _blend(picture, radiological(np.asarray(mask)).astype(int), n_classes)
    axes.imshow(picture, aspect=overlay.aspect, interpolation="antialiased")


def _blend(picture: NDArray[np.float64], mask: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Colour the pixels of each class, those on its border stronger."""
    colours = np.vstack([np.zeros(3), class_colours(max(n_classes, int(mask.max(initial=0))))])
    padded = np.pad(mask, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([mask != neighbour for neighbour in neighbours], axis=0)
    opacity = np.where(mask > 0, np.where(border, EDGE, FILL), 0.0)[..., None]
    blended: NDArray[np.float64] = (1 - opacity) * picture + opacity * colours[mask]
    return blended
