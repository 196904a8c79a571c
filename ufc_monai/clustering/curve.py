"""The mean within-cluster distance for many numbers of clusters, in one pass over a merge tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list

from ufc_monai.errors import InputError

__all__ = ["within_cluster_distances"]


def within_cluster_distances(features: NDArray[Any], tree: NDArray[np.float64], ks: Sequence[int]) -> list[float]:
    """What ``mean_within_cluster_distance`` gives for the cut into each k of ``ks``.

    Distances to a centroid do not add up along merges, so the pass undoes merges from the root, and after each it
    computes only the two clusters that come out. That is d times the sizes of the last max(ks) - 1 merges: n log n in
    all where the tree is balanced, at worst max(ks) n.

    Args:
        features: (n, d), what the tree was made of.
        tree: SciPy's linkage matrix.
        ks: numbers of clusters, 1 to n, in any order.

    Raises:
        InputError: if a number is out of range.

    Example:
        >>> from scipy.cluster.hierarchy import linkage
        >>> points = np.array([[0.0], [2.0], [9.0], [9.0]])
        >>> within_cluster_distances(points, linkage(points, "ward"), [1, 2, 3, 4])
        [4.0, 0.5, 0.0, 0.0]
    """
    n = len(tree) + 1
    if any(not 1 <= k <= n for k in ks):
        raise InputError(f"numbers of clusters must be 1 to {n} for {n} slices, got {list(ks)}.")
    # In the order of the leaves each cluster is a range of rows.
    rows = np.asarray(features, dtype=np.float64)[leaves_list(tree)]
    size = np.concatenate([np.ones(n), tree[:, 3]]).astype(np.int64)
    first = {2 * n - 2: 0}
    total = {2 * n - 2: _sum_of_distances(rows)}
    curve = {1: total[2 * n - 2]}
    for k in range(2, max(ks, default=1) + 1):
        parent = 2 * n - k
        left, right = tree[parent - n, :2].astype(np.int64).tolist()
        start = first.pop(parent)
        first |= {left: start, right: start + size[left]}
        for child in (left, right):
            total[child] = _sum_of_distances(rows[first[child] : first[child] + size[child]])
        # Differences leave a trace of rounding where the sum is zero.
        curve[k] = max(0.0, curve[k - 1] - total.pop(parent) + total[left] + total[right])
    return [curve[k] / n for k in ks]


def _sum_of_distances(rows: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(rows - rows.mean(axis=0), axis=1).sum())
