"""Pictures that a stage leaves behind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ufc_monai.files import atomic_path

__all__ = ["radiological", "save_cluster_montage", "save_elbow"]

COLUMNS = 8
CELL = 1.2
"""Width of one slice in the montage, inches."""


def radiological(image: NDArray[Any]) -> NDArray[Any]:
    """Turn a slice of an RAS volume into a picture as radiologists see it.

    Args:
        image: indexed (x, y), x growing to the patient's right and y to the patient's front.

    Returns:
        Indexed (row, column): the patient's front is at the top, the patient's right on the left.
    """
    return np.flip(image, axis=(0, 1)).T


def save_elbow(
    path: str | os.PathLike[str],
    ks: Sequence[int],
    distances: Sequence[float],
    n_clusters: int,
    searched: tuple[int, int],
) -> None:
    """Draw mean within-cluster distance against the number of clusters, the chosen one marked.

    Args:
        path: PNG file to write.
        ks: numbers of clusters.
        distances: the curve.
        n_clusters: the number used.
        searched: the range searched.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(ks, distances, color="tab:blue", marker=".", markersize=4)
    axes.axvline(n_clusters, color="tab:red", linestyle="--", linewidth=1, label=f"k = {n_clusters}")
    axes.set_xlabel(f"number of clusters k (searched {searched[0]} to {searched[1]})")
    axes.set_ylabel("mean distance within clusters")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _save(figure, path)


def save_cluster_montage(path: str | os.PathLike[str], images: Sequence[NDArray[Any]], titles: Sequence[str]) -> None:
    """Draw example slices, one row a cluster.

    Args:
        path: PNG file to write.
        images: for each cluster (n, H, W), slices in RAS orientation with values in [0, 1]; the first 8 are shown.
        titles: what stands beside each row.
    """
    height = CELL * images[0].shape[2] / images[0].shape[1]
    figure = Figure(figsize=(CELL * (COLUMNS + 1), height * len(images)), facecolor="black")
    # The room of one slice is left for the title.
    sides = {"left": 1 / (COLUMNS + 1), "right": 1, "bottom": 0, "top": 1, "hspace": 0}
    grid = figure.subplots(len(images), squeeze=False, gridspec_kw=sides)[:, 0]
    for axes, slices, title in zip(grid, images, titles, strict=True):
        axes.set_axis_off()
        axes.imshow(_side_by_side(slices[:COLUMNS]), cmap="gray", vmin=0, vmax=1)
        text = title.replace(" · ", "\n")
        axes.text(-0.01, 0.5, text, color="white", fontsize=9, ha="right", va="center", transform=axes.transAxes)
    _save(figure, path)


def _side_by_side(slices: NDArray[Any]) -> NDArray[Any]:
    """One row of pictures, filled up with black to ``COLUMNS`` of them."""
    pictures = [np.pad(radiological(image), 1) for image in slices]
    return np.hstack(pictures + [np.zeros_like(pictures[0])] * (COLUMNS - len(pictures)))


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
