"""Pictures of the clusters: how many, what is in them, what they follow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ufc_monai.report.drawing import row_of_slices, save, shortened

COLUMNS = 8
CELL = 1.2
"""Width of one slice in the montage, inches."""
BINS = 10
NAMED_PATIENTS = 25
"""More patients than these are not named on an axis."""


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
    save(figure, path)


def save_cluster_montage(path: str | os.PathLike[str], images: Sequence[NDArray[Any]], titles: Sequence[str]) -> None:
    """Draw example slices, one row a cluster.

    Args:
        path: PNG file to write.
        images: for each cluster (n, H, W) or (n, H, W, 3), slices in RAS orientation with values in [0, 1]; the first 8
            are shown.
        titles: what stands beside each row.
    """
    figure = Figure(
        figsize=(CELL * (COLUMNS + 1), CELL * images[0].shape[2] / images[0].shape[1] * len(images)), facecolor="black"
    )
    rows = np.stack([row_of_slices(slices, COLUMNS) for slices in images])
    height, width = rows.shape[1:3]
    # The room of one slice is left for the titles. One picture of all rows is drawn much faster than one of each.
    axes = figure.add_axes((1 / (COLUMNS + 1), 0, COLUMNS / (COLUMNS + 1), 1))
    axes.set_axis_off()
    axes.imshow(rows.reshape(-1, *rows.shape[2:]), cmap="gray", vmin=0, vmax=1, aspect="auto")
    for i, (_, title) in enumerate(zip(images, titles, strict=True)):
        text, place = title.replace(" · ", "\n"), (i + 0.5) * height - 0.5
        axes.text(-0.01 * width, place, text, color="white", fontsize=9, ha="right", va="center")
    save(figure, path)


def save_cluster_map(
    path: str | os.PathLike[str],
    labels: NDArray[Any],
    patients: Sequence[str],
    positions: NDArray[Any],
    figures: Sequence[tuple[str, float, float]],
) -> None:
    """Draw sizes of clusters, and how they lie across patients and along the body.

    Args:
        path: PNG file to write.
        labels: the cluster of each slice, (n,).
        patients: its patient, (n,).
        positions: its position in the volume, (n,) in [0, 1].
        figures: rows of name, NMI with the patient and NMI with the position, for the title; none where a patient
            has one slice: then the sizes alone are drawn.
    """
    k = int(labels.max()) + 1
    figure = Figure(figsize=(12 if figures else 6, min(max(3.2, 0.22 * k + 1.6), 14)), layout="constrained")
    if figures:
        sizes, *maps = figure.subplots(1, 3, sharey=True, gridspec_kw={"width_ratios": [1, 1.6, 1]})
        _map_clusters(maps, labels, patients, positions)
        compared = [f"{name}: {patient:.2f} patient, {position:.2f} position" for name, patient, position in figures]
        figure.suptitle("agreement of the clusters (NMI)   " + "   ·   ".join(compared), fontsize=10)
    else:
        sizes = figure.subplots()
    sizes.barh(np.arange(k), np.bincount(labels, minlength=k), color="tab:blue")
    sizes.set_xlabel("slices")
    sizes.set_ylabel("cluster")
    sizes.spines[["top", "right"]].set_visible(False)
    sizes.yaxis.get_major_locator().set_params(integer=True)
    sizes.set_ylim(k - 0.5, -0.5)
    save(figure, path)


def _map_clusters(
    panels: Sequence[Axes], labels: NDArray[Any], patients: Sequence[str], positions: NDArray[Any]
) -> None:
    """Draw how clusters lie across patients and along the body."""
    k, (by_patient, by_position) = int(labels.max()) + 1, panels
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    bins = np.minimum((np.asarray(positions) * BINS).astype(int), BINS - 1)
    _heat_maps(panels, (_shares(labels, patient, k, len(names)), _shares(labels, bins, k, BINS)))
    by_patient.set_xlabel(f"{len(names)} patients")
    if len(names) <= NAMED_PATIENTS:
        by_patient.set_xticks(np.arange(len(names)), [shortened(name, 14) for name in names], rotation=90, fontsize=7)
    else:
        by_patient.set_xticks([])
    by_position.set_xticks([-0.5, BINS / 2 - 0.5, BINS - 0.5], ["feet", "middle", "head"])
    by_position.set_xlabel("position in the volume")


def save_embedding_map(
    path: str | os.PathLike[str], points: NDArray[Any], clusters: NDArray[Any], positions: NDArray[Any]
) -> None:
    """Draw slices as points in the plane, coloured by position and by cluster, with the cluster's number amid them.

    Args:
        path: PNG file to write.
        points: (n, 2).
        clusters: the cluster of each slice, (n,); all -1 without clusters.
        positions: its position in the volume, (n,) in [0, 1]; where all are the same, as of pictures, it is no colour.
    """
    clusters, positions = np.asarray(clusters), np.asarray(positions)
    drawings: list[Callable[[Axes, NDArray[Any]], None]] = []
    if np.unique(positions).size > 1:
        drawings.append(partial(_draw_positions, positions=positions))
    if (clusters >= 0).all():
        drawings.append(partial(_draw_clusters, clusters=clusters))
    drawings = drawings or [_draw_points]
    figure = Figure(figsize=(5.2 * len(drawings), 4.4), layout="constrained")
    panels = figure.subplots(1, len(drawings), squeeze=False)[0]
    for axes, draw in zip(panels, drawings, strict=True):
        axes.set_xlabel("first principal component")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, points)
    panels[0].set_ylabel("second principal component")
    save(figure, path)


def _draw_points(axes: Axes, points: NDArray[Any]) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=6, linewidths=0)


def _draw_positions(axes: Axes, points: NDArray[Any], positions: NDArray[Any]) -> None:
    drawn = axes.scatter(points[:, 0], points[:, 1], c=positions, cmap="viridis", vmin=0, vmax=1, s=6, linewidths=0)
    axes.set_title("coloured by position in the volume", fontsize=10)
    axes.figure.colorbar(drawn, ax=axes, shrink=0.8).set_ticks([0, 1], labels=["feet", "head"])


def _draw_clusters(axes: Axes, points: NDArray[Any], clusters: NDArray[Any]) -> None:
    """Twenty colours come again in large numbers of clusters, and not everybody sees them: the numbers tell."""
    axes.set_title("coloured by cluster", fontsize=10)
    axes.scatter(points[:, 0], points[:, 1], c=clusters % 20, cmap="tab20", vmin=-0.5, vmax=19.5, s=6, linewidths=0)
    for cluster in np.unique(clusters):
        x, y = np.median(points[clusters == cluster], axis=0)
        number = axes.text(x, y, str(cluster), fontsize=8, ha="center", va="center")
        number.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _shares(rows: NDArray[Any], columns: NDArray[Any], n_rows: int, n_columns: int) -> NDArray[np.float64]:
    """Of what is in a column, the share in each row."""
    counts = np.zeros((n_rows, n_columns))
    np.add.at(counts, (rows, columns), 1)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=0), 1)
    return shares


def _heat_maps(panels: Sequence[Axes], shares: Sequence[NDArray[np.float64]]) -> None:
    """One scale for all panels, so that a colour means the same share in each."""
    most = max(share.max() for share in shares)
    for axes, share in zip(panels, shares, strict=True):
        drawn = axes.imshow(share, cmap="magma", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    panels[-1].figure.colorbar(drawn, ax=list(panels), shrink=0.8).set_label("share of the column's slices", fontsize=8)
