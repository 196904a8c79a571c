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

from ufc_monai.report.drawing import class_colours, named_rows, radiological, save, shortened

__all__ = ["Overlay", "save_overlays", "save_preview", "save_reconstructions", "save_views"]

FILL, EDGE = 0.3, 0.95
"""How opaque a structure's area and its outline are."""
SIDE = 3.2
"""Width of an overlay, inches."""
PREVIEWS = 6
"""Previews in a row."""
LONGEST_NAME = 40
"""Letters of a structure's name in a legend."""


@dataclass(frozen=True)
class Overlay:
    """An axial slice with structures on it.

    Attributes:
        title: what stands over it.
        image: (x, y) or (x, y, 3) in RAS orientation, in [0, 1].
        reference: class of each pixel, 0 for background; ``None`` if there is no label.
        prediction: the same of the network; ``None`` if there is none.
        aspect: height of a pixel over its width.
    """

    title: str
    image: NDArray[Any]
    reference: NDArray[Any] | None
    prediction: NDArray[Any] | None
    aspect: float = 1.0


def save_reconstructions(path: str | os.PathLike[str], images: NDArray[Any], reconstructions: NDArray[Any]) -> None:
    """Draw slices over what the auto-encoder makes of them.

    Args:
        path: PNG file to write.
        images: (n, H, W) or (n, H, W, 3) in RAS orientation, in [0, 1].
        reconstructions: the same.
    """
    save(named_rows([images, reconstructions], ["slice", "reconstruction"]), path)


def save_views(
    path: str | os.PathLike[str],
    slices: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    titles: Sequence[str],
) -> None:
    """Draw slices over the two views of each that the encoder is shown.

    Args:
        path: PNG file to write.
        slices: (n, H, W) or (n, H, W, 3) in RAS orientation, in [0, 1].
        first: the same.
        second: the same.
        titles: what stands over each column.
    """
    save(named_rows([slices, first, second], ["slice", "view 1", "view 2"], titles), path)


def save_overlays(path: str | os.PathLike[str], overlays: Sequence[Overlay], names: Sequence[str]) -> None:
    """Draw one row an overlay: the image alone, with the reference, with the prediction.

    Args:
        path: PNG file to write.
        overlays: with reference and prediction.
        names: names of the classes 1..n, for the legend.
    """
    height = SIDE * max(_height_over_width(overlay) for overlay in overlays)
    legend = _legend_height(names, 3 * SIDE)
    figure = Figure(figsize=(3 * SIDE, (height + 0.3) * len(overlays) + legend), facecolor="black")
    total = figure.get_figheight()
    sides = {"left": 0, "right": 1, "bottom": legend / total, "top": 1 - 0.3 / total}
    sides |= {"hspace": 0.3 / height, "wspace": 0.01}
    for row, overlay in zip(figure.subplots(len(overlays), 3, squeeze=False, gridspec_kw=sides), overlays, strict=True):
        for axes, mask, part in zip(
            row, (None, overlay.reference, overlay.prediction), ("", "reference", "prediction"), strict=True
        ):
            _show(axes, overlay, mask, len(names))
            axes.text(0.99, 0.01, part, color="white", fontsize=9, ha="right", va="bottom", transform=axes.transAxes)
        row[0].set_title(shortened(overlay.title, 100), color="white", fontsize=10, loc="left", x=0.01)
    _add_legend(figure, names)
    save(figure, path)


def save_preview(path: str | os.PathLike[str], previews: Sequence[Overlay], names: Sequence[str]) -> None:
    """Draw one tile a volume, its reference over it.

    Args:
        path: PNG file to write.
        previews: the slices; predictions are not shown.
        names: names of the classes 1..n, for the legend.
    """
    columns = min(PREVIEWS, len(previews))
    rows = math.ceil(len(previews) / columns)
    side = 2.0
    width = max(columns, 3) * side
    legend = _legend_height(names, width)
    figure = Figure(figsize=(width, rows * (side + 0.25) + legend), facecolor="black")
    total = figure.get_figheight()
    sides = {"left": 0, "right": 1, "bottom": legend / total, "top": 1 - 0.25 / total, "hspace": 0.14, "wspace": 0.02}
    grid = figure.subplots(rows, columns, squeeze=False, gridspec_kw=sides).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, preview in zip(grid, previews, strict=False):
        _show(axes, preview, preview.reference, len(names))
        axes.set_title(shortened(preview.title, 26), color="white", fontsize=8, pad=2)
    _add_legend(figure, names)
    save(figure, path)


def _show(axes: Axes, overlay: Overlay, mask: NDArray[Any] | None, n_classes: int) -> None:
    picture = np.atleast_3d(radiological(np.asarray(overlay.image, dtype=np.float64)).clip(0, 1))
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    if mask is not None:
        picture = _blend(picture, radiological(np.asarray(mask)).astype(int), n_classes)
    axes.imshow(picture, aspect=overlay.aspect, interpolation="antialiased")
    axes.set_axis_off()


def _blend(picture: NDArray[np.float64], mask: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Colour the pixels of each class, those on its border stronger."""
    colours = np.vstack([np.zeros(3), class_colours(max(n_classes, int(mask.max(initial=0))))])
    padded = np.pad(mask, 1, mode="edge")
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = np.any([mask != neighbour for neighbour in neighbours], axis=0)
    opacity = np.where(mask > 0, np.where(border, EDGE, FILL), 0.0)[..., None]
    blended: NDArray[np.float64] = (1 - opacity) * picture + opacity * colours[mask]
    return blended


def _add_legend(figure: Figure, names: Sequence[str]) -> None:
    patches = [
        Patch(color=tuple(colour), label=shortened(name, LONGEST_NAME))
        for name, colour in zip(names, class_colours(len(names)), strict=True)
    ]
    columns = _legend_columns(names, figure.get_figwidth())
    if patches:
        figure.legend(handles=patches, ncols=columns, loc="lower center", frameon=False, labelcolor="white", fontsize=9)


def _legend_columns(names: Sequence[str], width: float) -> int:
    """So many that the longest name fits, at 0.08 inches a letter and the colour before it."""
    longest = min(max(map(len, names), default=1), LONGEST_NAME)
    return max(1, min(4, int(width / (0.08 * longest + 0.7))))


def _legend_height(names: Sequence[str], width: float) -> float:
    return 0.22 * math.ceil(len(names) / _legend_columns(names, width)) + 0.15 if names else 0.05


def _height_over_width(overlay: Overlay) -> float:
    width, height = overlay.image.shape[:2]
    return float(height * overlay.aspect / width)
