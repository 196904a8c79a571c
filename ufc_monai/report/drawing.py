"""What all pictures share: orientation, colours, axes, saving."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ufc_monai.base.files import atomic_path
from ufc_monai.base.formats import OWN_PICTURE

OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Colours that colour-blind readers tell apart (Okabe & Ito); black, their eighth, is no use on a scan."""
FURTHER = ("#9467bd", "#7fff00", "#00e5ff", "#ff3d7f", "#b9936c", "#c5b0ff", "#ffffff")
"""For the structures from the eighth on; from the fifteenth on colours are used again."""
COLUMNS = 8
"""Slices in a row."""
CELL = 1.2
"""Width of one of them, inches."""
HEAD = 0.3
"""Height of titles, inches."""


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


def unframed(axes: Axes, whole: bool = False) -> None:
    """Leave out the frame above and on the right; ``whole`` puts ticks along x at whole numbers only."""
    axes.spines[["top", "right"]].set_visible(False)
    if whole:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as PNG, whole or not at all."""
    _without_formulas(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": OWN_PICTURE}, pil_kwargs={"compress_level": 3})


def jpeg(figure: Figure) -> bytes:
    """A figure as JPEG, which makes much less of scans than PNG does."""
    _without_formulas(figure)
    content = io.BytesIO()
    figure.savefig(content, format="jpeg", dpi=110, pil_kwargs={"quality": 88, "subsampling": 0})
    return content.getvalue()


def _without_formulas(figure: Figure) -> None:
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a file's name may hold dollars


def shortened(text: str, length: int) -> str:
    """A text of at most ``length`` characters, cut in the middle, since names differ at their ends."""
    return text if len(text) <= length else f"{text[: length // 2 - 1]}…{text[-(length - length // 2) :]}"


def save_rows(
    path: str | os.PathLike[str], rows: Sequence[NDArray[Any]], names: Sequence[str], titles: Sequence[str] = ()
) -> None:
    """Draw rows of slices.

    Args:
        path: PNG file to write.
        rows: for each row (n, H, W) or (n, H, W, 3), slices in RAS orientation with values in [0, 1]; the first 8
            are shown.
        names: text beside each row.
        titles: text over each column.
    """
    pictures = np.stack([_row(slices) for slices in rows])
    height, width = pictures.shape[1:3]
    total = CELL * rows[0].shape[2] / rows[0].shape[1] * len(rows) + HEAD * bool(titles)
    figure = Figure(figsize=(CELL * (COLUMNS + 1), total), facecolor="black")
    left, share = 1 / (COLUMNS + 1), 1 - HEAD * bool(titles) / total
    # One picture of all rows is drawn much faster than one of each. The room of one slice is left for the names.
    axes = figure.add_axes((left, 0, 1 - left, share))
    axes.set_axis_off()
    axes.imshow(pictures.reshape(-1, *pictures.shape[2:]), cmap="gray", vmin=0, vmax=1, aspect="auto")
    for i, (_, name) in enumerate(zip(rows, names, strict=True)):
        axes.text(-0.01 * width, (i + 0.5) * height - 0.5, name, color="white", fontsize=9, ha="right", va="center")
    for i, title in enumerate(titles):
        figure.text(left * (i + 1.5), share + 0.003, title, color="white", fontsize=8, ha="center", va="bottom")
    save(figure, path)


def _row(slices: NDArray[Any]) -> NDArray[Any]:
    """Slices side by side with a line of black between them, filled up with black."""
    frame = ((1, 1), (1, 1), (0, 0))[: slices.ndim - 1]
    pictures = [np.pad(radiological(image), frame) for image in slices[:COLUMNS]]
    return np.hstack(pictures + [np.zeros_like(pictures[0])] * (COLUMNS - len(pictures)))
