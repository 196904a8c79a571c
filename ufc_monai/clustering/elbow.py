"""How many clusters: the elbow of the mean within-cluster distance (section II.A of the paper).

The curve over the number of clusters comes from a merge tree in one pass, or from a fit for each number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.space import centroids


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


@dataclass(frozen=True)
class Elbow:
    """The curve and what was read from it.

    Attributes:
        n_clusters: the number chosen from the curve.
        ks: numbers of clusters of the curve.
        distances: mean within-cluster distance for each.
        searched: smallest and largest number searched; it has a say in where the elbow lies, so report it along.
        reason: one sentence for the log; it says so where kneed finds no elbow, and the number farthest from the
            straight line between the curve's ends was chosen instead.
    """

    n_clusters: int
    ks: tuple[int, ...]
    distances: tuple[float, ...]
    searched: tuple[int, int]
    reason: str

    def provenance(self) -> dict[str, Any]:
        """What the file of pseudo-labels tells of it: JSON values."""
        curve = {"k": list(self.ks), "distance": [round(d, 6) for d in self.distances]}
        return {"chosen": self.n_clusters, "searched": list(self.searched), "reason": self.reason, **curve}


def expected_positives(chance: float, batch_size: int) -> float:
    """Positives that an anchor expects in a batch: 1 + 2 (b - 1) sum_c q_c^2, for cluster shares q.

    Args:
        chance: the sum, see :func:`same_cluster_chance`.
        batch_size: b, images in a batch of stage 2.
    """
    return 1 + 2 * (batch_size - 1) * chance


def choose_n_clusters(
    curve: Callable[[Sequence[int]], Iterable[CurvePoint]],
    n: int,
    *,
    k_range: Sequence[int] = (2, 60),
    batch_size: int = 48,
    min_positives: float = 3.0,
    most: int | None = None,
) -> Elbow:
    """Find the elbow of a curve over the number of clusters.

    The search ends where an anchor would expect fewer than ``min_positives`` positives in a batch: beyond, clusters
    hardly differ from single images. The first number of the range is always looked at, and no number is that of the
    slices or more, so that few slices leave a short curve but always a result.

    Args:
        curve: gives the points at some rising numbers of clusters; no more of them are taken than the search needs.
        n: number of slices.
        k_range: smallest and largest number of clusters to look at.
        batch_size: of stage 2.
        min_positives: see above.
        most: look at so many numbers at most, ever farther apart; ``None`` looks at each.
    """
    high = max(2, min(k_range[1], n - 1))
    low = min(k_range[0], high)
    grid = list(range(low, high + 1))
    if most is not None:
        grid = np.unique(np.geomspace(low, high, most).round().astype(int)).tolist()
    ks: list[int] = []
    distances: list[float] = []
    for k, point in zip(grid, curve(grid), strict=True):
        if ks and expected_positives(point.chance, batch_size) < min_positives:
            break
        ks.append(k)
        distances.append(point.distance)
    knee = find_knee(ks, distances)
    chosen = farthest_from_chord(ks, distances) if knee is None else knee
    rule = "farthest from the chord (kneed finds no elbow)" if knee is None else "the elbow"
    searched = f"{ks[0]} to {ks[-1]}" if most is None else ", ".join(map(str, ks))
    reason = f"k = {chosen} is {rule} of the mean within-cluster distance over k = {searched}"
    if len(ks) < len(grid):
        reason += f"; beyond, a batch of {batch_size} gives an anchor fewer than {min_positives:g} positives"
    return Elbow(chosen, tuple(ks), tuple(distances), (ks[0], ks[-1]), f"{reason}.")


def find_knee(ks: Sequence[int], distances: Sequence[float]) -> int | None:
    """The elbow of a falling convex curve by kneed; ``None`` where there is none between its ends."""
    if np.ptp(distances) <= 1e-9 * np.max(distances):
        return None
    from kneed import KneeLocator  # brings pyplot along, which a cut of a saved tree need not wait for

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        knee = KneeLocator(ks, distances, curve="convex", direction="decreasing").knee
    return int(knee) if knee is not None and ks[0] < knee < ks[-1] else None


def farthest_from_chord(ks: Sequence[int], distances: Sequence[float]) -> int:
    """The number where the curve lies farthest below the straight line between its ends; the first if nowhere."""
    line = np.interp(ks, [ks[0], ks[-1]], [distances[0], distances[-1]])
    below = line - np.asarray(distances)
    # A straight curve differs from its line by rounding only.
    return ks[int(np.argmax(np.where(below > 1e-9 * np.max(distances), below, 0.0)))]
