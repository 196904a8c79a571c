"""The curve over the number of clusters: from a merge tree in one pass, or from a fit for each number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.centroids import centroids


class CurvePoint(NamedTuple):
    """What the choice of a number of clusters depends on.

    Attributes:
        distance: see :func:`mean_within_cluster_distance`.
        chance: see :func:`same_cluster_chance`.
    """

    distance: float
    chance: float


def mean_within_cluster_distance(features: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Mean over slices of the Euclidean distance to the centre of their cluster."""
    return float(np.linalg.norm(features - centroids(features, labels)[labels], axis=1).mean())


def same_cluster_chance(labels: NDArray[np.int64]) -> float:
    """How likely two slices, drawn at random, are of one cluster: sum_c q_c^2, for cluster shares q."""
    return float(np.square(np.bincount(labels) / len(labels)).sum())


def fitted_curve(
    features: NDArray[Any], cluster: Callable[[int], NDArray[np.int64]], ks: Sequence[int]
) -> Iterator[CurvePoint]:
    """The points at ``ks``, each when it is asked for.

    Args:
        features: (n, d), what is clustered.
        cluster: gives the labels of k clusters.
        ks: numbers of clusters.
    """
    for k in ks:
        labels = cluster(k)
        yield CurvePoint(mean_within_cluster_distance(features, labels), same_cluster_chance(labels))


def tree_curve(features: NDArray[Any], tree: NDArray[np.float64], ks: Sequence[int]) -> Iterator[CurvePoint]:
    """The points of the cuts into ``ks`` clusters, each when it is asked for.

    Distances to a centroid do not add up along merges, so the pass undoes merges from the root, and after each it
    computes only the two clusters that come out. That is d times the sizes of the last max(ks) - 1 merges: n log n in
    all where the tree is balanced, at worst max(ks) n.

    Args:
        features: (n, d), what the tree was made of.
        tree: SciPy's linkage matrix.
        ks: rising numbers of clusters, 1 to n.

    Raises:
        ValueError: if they are not.

    Example:
        >>> from scipy.cluster.hierarchy import linkage
        >>> points = np.array([[0.0], [2.0], [9.0], [9.0]])
        >>> [point.distance for point in tree_curve(points, linkage(points, "ward"), [1, 2, 3, 4])]
        [4.0, 0.5, 0.0, 0.0]
    """
    from scipy.cluster.hierarchy import leaves_list  # stage 2 has no use for it

    n = len(tree) + 1
    if any(np.diff([0, *ks, n + 1]) < 1):
        raise ValueError(f"numbers of clusters must rise from 1 or more to {n} or less, got {list(ks)}")
    # In the order of the leaves each cluster is a range of rows.
    rows = np.asarray(features, dtype=np.float64)[leaves_list(tree)]
    size = [1] * n + tree[:, 3].astype(np.int64).tolist()
    root = 2 * n - 2
    first, total = {root: 0}, {root: _sum_of_distances(rows)}
    distance, pairs, reached = total[root], n * n, 1
    for k in ks:
        for parent in range(2 * n - reached - 1, 2 * n - k - 1, -1):
            left, right = tree[parent - n, :2].astype(np.int64).tolist()
            start = first.pop(parent)
            first |= {left: start, right: start + size[left]}
            for child in (left, right):
                total[child] = _sum_of_distances(rows[first[child] : first[child] + size[child]])
            # Differences leave a trace of rounding where the sum is zero.
            distance = max(0.0, distance - total.pop(parent) + total[left] + total[right])
            pairs -= 2 * size[left] * size[right]
        reached = k
        yield CurvePoint(distance / n, pairs / n**2)


def _sum_of_distances(rows: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(rows - rows.mean(axis=0), axis=1).sum())
