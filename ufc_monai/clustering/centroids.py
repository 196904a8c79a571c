"""Cluster centres, and the cluster of a new slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin


def centroids(features: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean feature of each cluster, (k, d), for labels 0 to k - 1."""
    sums = np.zeros((int(labels.max()) + 1, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums / np.bincount(labels)[:, None]


def assign(features: NDArray[Any], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """The centre that is nearest to each new slice, (n,).

    A tree has no rule for slices that it did not see; this one (Voronoi cells) is close to it, not the same.
    """
    return np.asarray(pairwise_distances_argmin(np.asarray(features, dtype=np.float64), centres), dtype=np.int64)
