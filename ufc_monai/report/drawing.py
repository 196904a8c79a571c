"""What all pictures share: orientation, colours, saving."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from ufc_monai.base.files import atomic_path

OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Colours that colour-blind readers tell apart (Okabe & Ito); black, their eighth, is no use on a scan."""
FURTHER = ("#9467bd", "#7fff00", "#00e5ff", "#ff3d7f", "#b9936c", "#c5b0ff", "#ffffff")
"""For the structures from the eighth on; from the fifteenth on colours come again."""


def radiological(image: NDArray[Any]) -> NDArray[Any]:
    """Turn a slice of an RAS volume into a picture as radiologists see it.

    Args:
        image: indexed (x, y), x growing to the patient's right and y to the patient's front; colours behind.

    Returns:
        Indexed (row, column): the patient's front is at the top, the patient's right on the left.
    """
    return np.flip(image, axis=(0, 1)).swapaxes(0, 1)


def class_colours(n: int) -> NDArray[np.float64]:
    """A colour for each of the classes 1..n, (n, 3) in [0, 1]."""
    colours: NDArray[np.float64] = np.resize(to_rgba_array(OKABE_ITO + FURTHER)[:, :3], (n, 3))
    return colours


def row_of_slices(slices: NDArray[Any], columns: int) -> NDArray[Any]:
    """Slices in RAS orientation side by side, with a line of black between, filled up with black to ``columns``."""
    frame = ((1, 1), (1, 1), (0, 0))[: slices.ndim - 1]
    pictures = [np.pad(radiological(image), frame) for image in slices[:columns]]
    return np.hstack(pictures + [np.zeros_like(pictures[0])] * (columns - len(pictures)))


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a file's name may hold dollars
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, pil_kwargs={"compress_level": 3})


def shortened(text: str, length: int) -> str:
    """A text of at most ``length`` characters; the middle gives way, for names differ at their ends."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"


def named_rows(rows: Sequence[NDArray[Any]], names: Sequence[str], titles: Sequence[str] = ()) -> Figure:
    """A black figure of rows of slices, (n, H, W) or (n, H, W, 3), a name beside each and a title over each column."""
    n, width, height = rows[0].shape[:3]
    cell = 1.3
    figure = Figure(figsize=(cell * (n + 1), cell * height / width * len(rows) + 0.3), facecolor="black")
    sides = {"left": 1 / (n + 1), "right": 1, "bottom": 0, "top": 1 - 0.3 / figure.get_figheight(), "hspace": 0}
    grid = figure.subplots(len(rows), squeeze=False, gridspec_kw=sides)[:, 0]
    for axes, slices, name in zip(grid, rows, names, strict=True):
        axes.set_axis_off()
        axes.imshow(row_of_slices(slices, n), cmap="gray", vmin=0, vmax=1, aspect="auto")
        axes.text(-0.01, 0.5, name, color="white", fontsize=9, ha="right", va="center", transform=axes.transAxes)
    for i, title in enumerate(titles):
        grid[0].text((i + 0.5) / n, 1.01, title, color="white", fontsize=8, ha="center", transform=grid[0].transAxes)
    return figure
