"""How good clusters are by themselves: their sizes, and how well they are separated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

SAMPLE = 2000
"""Slices that the silhouette is taken of: its cost grows with their square."""


def quality(features: NDArray[Any], labels: NDArray[np.int64], *, seed: int = 0) -> dict[str, float]:
    """Sizes and separation of clusters.

    Args:
        features: what was clustered, (n, d).
        labels: the cluster of each slice, 0 to k - 1, (n,).
        seed: of the sample of at most 2,000 slices.

    Returns:
        ``largest_share``, the largest cluster's share of the slices; ``single_slices``, clusters of one slice;
        ``silhouette`` in [-1, 1], of the sample, left out where it has one cluster or nothing but single slices.
    """
    sizes = np.bincount(labels)
    figures = {"largest_share": float(sizes.max() / len(labels)), "single_slices": int((sizes == 1).sum())}
    some = np.random.default_rng(seed).permutation(len(labels))[:SAMPLE]
    if 2 <= len(np.unique(labels[some])) < len(some):
        figures["silhouette"] = float(silhouette_score(features[some], labels[some]))
    return figures


def size_warning(figures: Mapping[str, float], n_clusters: int, n_slices: int) -> str | None:
    """A plain sentence if the sizes leave little to contrast, else ``None``.

    Args:
        figures: of :func:`quality`.
        n_clusters: number of clusters.
        n_slices: number of slices.
    """
    if figures["single_slices"] > n_slices / 2:
        return (
            f"{figures['single_slices']} of {n_slices} slices are clusters of their own: for them the clusters change "
            "nothing, contrast is SimCLR's. Take fewer clusters, or a larger eps."
        )
    if n_clusters > 2 and figures["largest_share"] > 0.5:
        share = 100 * figures["largest_share"]
        return (
            f"one cluster holds {share:.0f} % of the slices, and no two of these are contrasted. Take Ward linkage, "
            "more clusters, or a smaller eps."
        )
    return None
