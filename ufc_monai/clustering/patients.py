"""Patients by what their slices show: how often each cluster, on a map, and who is like whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.clusterers import cut_tree

NEAREST = 3
"""Patients that are named for each."""
GROUPS = 3
"""Of patients, at most."""


@dataclass(frozen=True)
class Stratification:
    """Patients by their histograms over clusters.

    Attributes:
        names: of the patients, sorted, (p,).
        sizes: slices of each, (p,).
        shares: of each cluster among a patient's slices, (p, k); rows sum to 1.
        points: on a map, on which patients that are alike lie close together, (p, 2).
        nearest: indices of the patients most alike, at most 3, (p, m).
        distances: to these, by Hellinger: 0 for the same histogram, 1 for no cluster in common, (p, m).
        groups: the group of each by Ward's tree of these distances, 0 to 2 from the largest down, (p,).
    """

    names: list[str]
    sizes: NDArray[np.int64]
    shares: NDArray[np.float64]
    points: NDArray[np.float64]
    nearest: NDArray[np.int64]
    distances: NDArray[np.float64]
    groups: NDArray[np.int64]


def stratify(labels: NDArray[np.int64], patients: Sequence[str], n_clusters: int) -> Stratification:
    """Compare patients.

    Args:
        labels: the cluster of each slice, 0 to k - 1, (n,).
        patients: the patient of each slice, two of them at least.
        n_clusters: k, 2 or more.
    """
    from scipy.cluster.hierarchy import ward
    from sklearn.neighbors import NearestNeighbors  # here: a server paints clusters without it

    names, which = np.unique(np.asarray(patients), return_inverse=True)
    counts = np.zeros((len(names), n_clusters))
    np.add.at(counts, (which, labels), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    roots = np.sqrt(shares / 2)  # half of their squared distance is that of Hellinger
    most = min(NEAREST, len(names) - 1)
    search = NearestNeighbors(n_neighbors=most, algorithm="brute").fit(roots)
    distances, nearest = search.kneighbors()
    groups = cut_tree(ward(roots), min(GROUPS, len(names)))
    sizes = counts.sum(axis=1).astype(np.int64)
    return Stratification(names.tolist(), sizes, shares, _plane(roots), nearest, distances, groups)


def _plane(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first two principal components, (p, 2), also where all rows are the same."""
    left, values, right = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    largest = np.abs(right[:2]).argmax(axis=1)
    return np.asarray(left[:, :2] * values[:2] * np.sign(right[[0, 1], largest]))
