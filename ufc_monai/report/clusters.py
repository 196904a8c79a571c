"""Pictures of the clusters: how many, what is in them, what they follow, and which volumes cover them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ufc_monai.report.drawing import save, shortened, unframed
from ufc_monai.report.page import counted

BINS = 10
NAMED_PATIENTS = 25
"""With more patients than these, the axis names none."""


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
    searched_for = f"number of clusters k (searched {searched[0]} to {searched[1]})"
    axes.set(xlabel=searched_for, ylabel="mean distance within clusters")
    unframed(axes)
    axes.legend(frameon=False)
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
        figures: rows of name, NMI with the patient and NMI with the position, for the title; empty if a patient has
            one slice: then the sizes alone are drawn.
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
    sizes.yaxis.get_major_locator().set_params(integer=True)
    sizes.set(xlabel="slices", ylabel="cluster", ylim=(k - 0.5, -0.5))
    unframed(sizes)
    save(figure, path)


def _map_clusters(
    panels: Sequence[Axes], labels: NDArray[Any], patients: Sequence[str], positions: NDArray[Any]
) -> None:
    """Draw the shares of the clusters in each patient and along the body; a colour means the same share in both."""
    k, (by_patient, by_position) = int(labels.max()) + 1, panels
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    bins = np.minimum((np.asarray(positions) * BINS).astype(int), BINS - 1)
    counts = [
        np.histogram2d(labels, at, (k, n), ((0, k), (0, n)))[0] for at, n in ((patient, len(names)), (bins, BINS))
    ]
    shares = [count / np.maximum(count.sum(axis=0), 1) for count in counts]
    for axes, share in zip(panels, shares, strict=True):
        drawn = axes.imshow(
            share, cmap="magma", vmin=0, vmax=max(map(np.max, shares)), aspect="auto", interpolation="nearest"
        )
    by_patient.figure.colorbar(drawn, ax=panels, shrink=0.8).set_label("share of the column's slices", fontsize=8)
    by_patient.set_xlabel(counted(len(names), "patient"))
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
        positions: its position in the volume, (n,) in [0, 1]; if all are the same, as in pictures, it gives no colour.
    """
    by_position, by_cluster = np.unique(positions).size > 1, bool((clusters >= 0).all())
    n = max(1, by_position + by_cluster)
    figure = Figure(figsize=(5.2 * n, 4.4), layout="constrained")
    panels = figure.subplots(1, n, squeeze=False)[0]
    for axes in panels:
        axes.set(xlabel="first principal component", xticks=[], yticks=[])
        unframed(axes)
    panels[0].set_ylabel("second principal component")
    x, y = points.T
    if by_position:
        drawn = panels[0].scatter(x, y, c=positions, cmap="viridis", vmin=0, vmax=1, s=6, linewidths=0)
        panels[0].set_title("coloured by position in the volume", fontsize=10)
        figure.colorbar(drawn, ax=panels[0], shrink=0.8).set_ticks([0, 1], labels=["feet", "head"])
    if by_cluster:
        panels[-1].set_title("coloured by cluster", fontsize=10)
        panels[-1].scatter(x, y, c=clusters % 20, cmap="tab20", vmin=-0.5, vmax=19.5, s=6, linewidths=0)
        # twenty colours repeat when there are more clusters, and not everybody tells them apart: the numbers help
        for cluster in np.unique(clusters):
            middle = np.median(points[clusters == cluster], axis=0)
            number = panels[-1].text(*middle, str(cluster), fontsize=8, ha="center", va="center")
            number.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    if not (by_position or by_cluster):
        panels[0].scatter(x, y, s=6, linewidths=0)
    save(figure, path)


def save_coverage(
    path: str | os.PathLike[str],
    rows: Mapping[str, NDArray[np.float64]],
    covered: Sequence[float],
    at_random: Sequence[float],
) -> None:
    """Draw which clusters the chosen volumes hold beside those of all volumes, and how the coverage grows.

    Args:
        path: the PNG file.
        rows: share of each cluster, (clusters,), by the name of the row.
        covered: share of the average volume that the first 1, 2, ... chosen volumes cover.
        at_random: share that as many volumes drawn at random cover.
    """
    figure = Figure(figsize=(12, max(3.0, 0.3 * len(rows) + 1.4)), layout="constrained")
    table, curve = figure.subplots(1, 2, gridspec_kw={"width_ratios": [2.2, 1]})
    drawn = table.imshow(100 * np.array(list(rows.values())), aspect="auto", cmap="viridis", vmin=0)
    table.set_yticks(range(len(rows)), [shortened(name, 32) for name in rows], fontsize=8)
    table.set_xlabel("cluster, from the largest to the smallest")
    table.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(drawn, ax=table, label="% of the volume's slices")
    steps = np.arange(1, len(covered) + 1)
    curve.plot(steps, 100 * np.array(covered), "o-", color="tab:blue", label="chosen")
    curve.plot(steps, 100 * np.array(at_random), "o--", color="tab:grey", label="at random, mean")
    curve.set(xlabel="volumes", ylabel="covered of the average volume, %", ylim=(0, 100))
    unframed(curve, whole=True)
    curve.legend(frameon=False, loc="lower right")
    save(figure, path)
