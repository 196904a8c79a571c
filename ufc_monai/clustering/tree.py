"""Cuts of a merge tree of all slices or of a sample, the landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.space import assign, centroids


def cut_tree(tree: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """Labels for exactly ``n_clusters`` clusters: the state before the last ``n_clusters - 1`` merges.

    Counting merges instead of comparing heights gives the asked number even where heights tie.

    Args:
        tree: a linkage matrix of n slices.
        n_clusters: 1 to n.

    Returns:
        (n,), numbered from the largest cluster down; among equals the one with the earliest slice first.

    Raises:
        InputError: if ``n_clusters`` is out of range.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(tree) + 1
    if not 1 <= n_clusters <= n:
        raise InputError(f"n_clusters must be 1 to {n} for {n} slices, got {n_clusters}.")
    merges = n - n_clusters
    parents = np.repeat(np.arange(n, n + merges), 2)
    children = tree[:merges, :2].astype(np.int64).ravel()
    graph = coo_array((np.ones(2 * merges), (children, parents)), shape=(n + merges, n + merges))
    _, component = connected_components(graph, directed=False)
    return by_size(component[:n])


def by_size(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Number clusters anew, 0 to k - 1, from the largest down; among equals the one with the earliest slice first."""
    _, first, label, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[label]


def landmark_labels(
    features: NDArray[Any], landmarks: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Labels of all slices: the landmarks stay together as they are, the others join the nearest centroid.

    It is close to a tree of all slices, not the same; so say it in the log, and record seed and number of landmarks.

    Args:
        features: (n, d), of all slices.
        landmarks: indices of those that were clustered, (m,).
        labels: their clusters, 0 to k - 1, (m,).

    Returns:
        (n,), numbered from the largest cluster down.
    """
    everyone = np.full(len(features), -1)
    everyone[landmarks] = labels
    others = everyone < 0
    if others.any():
        everyone[others] = assign(features[others], centroids(features[landmarks], labels))
    return by_size(everyone)
