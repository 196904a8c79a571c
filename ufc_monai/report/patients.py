"""Picture of patients: those alike lie close together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import NDArray

from ufc_monai.base.sample import spread
from ufc_monai.report.drawing import radiological, save, shortened, unframed

SHOWN = 40
"""Patients with a picture, at most; the others are points."""


def save_patient_map(
    path: str | os.PathLike[str], points: NDArray[np.float64], pictures: NDArray[Any], names: Sequence[str]
) -> None:
    """Draw patients as pictures in the plane.

    Args:
        path: PNG file to write.
        points: of each patient, (p, 2).
        pictures: a slice of each in RAS orientation, (p, h, w) or (p, h, w, 3) uint8.
        names: of the patients.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(points[:, 0], points[:, 1], s=8, color="tab:grey")
    for i in spread(len(names), SHOWN):
        picture = OffsetImage(radiological(pictures[i]), cmap="gray", zoom=48 / pictures.shape[1])
        axes.add_artist(AnnotationBbox(picture, tuple(points[i]), frameon=False))
        text = shortened(names[i], 16)
        axes.annotate(text, tuple(points[i]), (0, -26), textcoords="offset points", fontsize=7, ha="center", va="top")
    axes.margins(0.1)
    axes.set(xticks=[], yticks=[], xlabel="first principal component of the patients' histograms over clusters")
    axes.set_ylabel("second principal component")
    unframed(axes)
    save(figure, path)
