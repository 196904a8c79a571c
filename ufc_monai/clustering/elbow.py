"""How many clusters: the elbow of the mean within-cluster distance (section II.A of the paper)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ufc_monai.clustering.curve import CurvePoint


@dataclass(frozen=True)
class Elbow:
    """The curve and what was read from it.

    Attributes:
        n_clusters: the number chosen from the curve.
        ks: numbers of clusters of the curve.
        distances: mean within-cluster distance for each.
        searched: smallest and largest number searched; it has a say in where the elbow lies, so report it along.
        chord: the number farthest from the straight line between the curve's ends.
        method: ``"kneed"``, or ``"chord"`` where kneed finds no elbow.
        reason: one sentence for the log.
    """

    n_clusters: int
    ks: tuple[int, ...]
    distances: tuple[float, ...]
    searched: tuple[int, int]
    chord: int
    method: str
    reason: str


def expected_positives(chance: float, batch_size: int) -> float:
    """Positives that an anchor expects in a batch: 1 + 2 (b - 1) sum_c q_c^2, for cluster shares q.

    Args:
        chance: the sum, see :func:`~ufc_monai.clustering.curve.same_cluster_chance`.
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
    knee, chord = find_knee(ks, distances), farthest_from_chord(ks, distances)
    chosen, method = (chord, "chord") if knee is None else (knee, "kneed")
    rule = "farthest from the chord (kneed finds no elbow)" if knee is None else "the elbow"
    searched = f"{ks[0]} to {ks[-1]}" if most is None else ", ".join(map(str, ks))
    reason = f"k = {chosen} is {rule} of the mean within-cluster distance over k = {searched}"
    if len(ks) < len(grid):
        reason += f"; beyond, a batch of {batch_size} gives an anchor fewer than {min_positives:g} positives"
    return Elbow(chosen, tuple(ks), tuple(distances), (ks[0], ks[-1]), chord, method, f"{reason}.")


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
