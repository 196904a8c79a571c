"""How many of the pairs that a method pushes apart show the same structures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTITIONS = 4
"""Of a volume, in GLCL."""
THRESHOLD = 0.1
"""Difference of position from which PCL pushes two slices apart."""


def count_false_negatives(
    present: NDArray[np.bool_], clusters: NDArray[np.int64] | None = None, positions: NDArray[Any] | None = None
) -> dict[str, dict[str, float | None]]:
    """Judge by organ presence what contrastive methods do to the pairs of slices of a random batch.

    Two slices are alike if they hold the same structures, one at least. SimCLR and MoCo push all slices apart, UFC
    those of other clusters, GLCL (Chaitanya et al. 2020, G^D-) those of other quarters of the volume, PCL (Zeng et al.
    2021) those whose positions differ by 0.1 or more. UFC and PCL draw the rest together; the others only the two
    views of one slice.

    Args:
        present: which structures each slice holds, (n, structures).
        clusters: the cluster of each slice, (n,); ``None`` leaves UFC out.
        positions: its position in the volume, (n,) in [0, 1]; ``None`` leaves GLCL and PCL out.

    Returns:
        For ``simclr``, ``glcl``, ``pcl`` and ``ufc``: ``pushed_apart``, the share of all pairs; ``false_negatives``,
        the share of these that are alike; ``true_positives``, the share of those drawn together that are alike.
        ``None`` where there are no such pairs.
    """
    sets, which = np.unique(np.asarray(present, dtype=bool), axis=0, return_inverse=True)
    alike = [np.flatnonzero(which == i) for i in range(len(sets)) if sets[i].any()]
    everything = np.arange(len(which))

    def shares(mates: Callable[[NDArray[Any]], int], *, attracts: bool) -> dict[str, float | None]:
        """What becomes of pairs, by a function that counts the mates, the pairs that are not pushed apart."""
        together, together_alike = mates(everything), sum(mates(part) for part in alike)
        apart = _pairs(len(which)) - together
        apart_alike = sum(_pairs(len(part)) for part in alike) - together_alike
        return {
            "pushed_apart": _share(apart, apart + together),
            "false_negatives": _share(apart_alike, apart),
            "true_positives": _share(together_alike, together) if attracts else None,
        }

    rows = {"simclr": shares(lambda chosen: 0, attracts=False)}
    if positions is not None:
        quarters = np.minimum((np.asarray(positions) * PARTITIONS).astype(int), PARTITIONS - 1)
        rows["glcl"] = shares(lambda chosen: _equal_pairs(quarters[chosen]), attracts=False)
        rows["pcl"] = shares(lambda chosen: _close_pairs(positions[chosen]), attracts=True)
    if clusters is not None:
        rows["ufc"] = shares(lambda chosen: _equal_pairs(clusters[chosen]), attracts=True)
    return rows


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


def _equal_pairs(groups: NDArray[Any]) -> int:
    return sum(_pairs(n) for n in np.unique(groups, return_counts=True)[1].tolist())


def _close_pairs(positions: NDArray[Any]) -> int:
    """Pairs that differ by less than the threshold: for each position, those above it within reach."""
    ordered = np.sort(positions)
    within = np.searchsorted(ordered, ordered + THRESHOLD) - np.arange(len(ordered))
    return int((within - 1).sum())


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
