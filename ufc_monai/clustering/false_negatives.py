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
ATTRACTING = ("pcl", "ufc")
"""Methods that draw together what they do not push apart."""


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
    # each method's mates are the pairs that it does not push apart
    mates: dict[str, Callable[[NDArray[Any]], int]] = {"simclr": lambda chosen: 0}
    if positions is not None:
        quarters = np.minimum((np.asarray(positions) * PARTITIONS).astype(int), PARTITIONS - 1)
        mates["glcl"] = lambda chosen: _equal_pairs(quarters[chosen])
        mates["pcl"] = lambda chosen: _close_pairs(positions[chosen])
    if clusters is not None:
        mates["ufc"] = lambda chosen: _equal_pairs(clusters[chosen])
    pairs, alike_pairs = _pairs(len(which)), sum(_pairs(len(part)) for part in alike)
    rows = {}
    for method, count in mates.items():
        together, together_alike = count(np.arange(len(which))), sum(map(count, alike))
        rows[method] = {
            "pushed_apart": _share(pairs - together, pairs),
            "false_negatives": _share(alike_pairs - together_alike, pairs - together),
            "true_positives": _share(together_alike, together) if method in ATTRACTING else None,
        }
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
