"""Clusterings without a tree: k-means and DBSCAN."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.tree import by_size

STARTS = 4
"""Of k-means; the best is kept."""


def kmeans(features: NDArray[Any], n_clusters: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Labels of k-means, the best of four k-means++ starts.

    Args:
        features: (n, d).
        n_clusters: 1 to n; where fewer slices differ, there are fewer clusters.
        seed: of the starts.

    Returns:
        (n,), numbered from the largest cluster down.

    Raises:
        InputError: if ``n_clusters`` is out of range.
    """
    from sklearn.cluster import KMeans  # here and below: most runs have no use for it, and it takes its time

    n = len(features)
    if not 1 <= n_clusters <= n:
        raise InputError(f"n_clusters must be 1 to {n} for {n} slices, got {n_clusters}.")
    # Several threads add in the order in which they finish, and the last bits would differ from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return by_size(KMeans(n_clusters, n_init=STARTS, random_state=seed).fit_predict(features))


def dbscan(features: NDArray[Any], *, eps: float, min_samples: int) -> tuple[NDArray[np.int64], int]:
    """Labels of DBSCAN; every noise point is a cluster of its own, so that noise is never drawn together.

    Args:
        features: (n, d).
        eps: radius of a neighbourhood.
        min_samples: slices in it, itself included, that make a core.

    Returns:
        Labels (n,), numbered from the largest cluster down, and the number of noise points.
    """
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(features)
    noise = labels < 0
    labels[noise] = labels.max() + 1 + np.arange(noise.sum())
    return by_size(labels), int(noise.sum())


def typical_radius(features: NDArray[Any], min_samples: int) -> float:
    """The radius at which half of the slices are cores of DBSCAN: where to look for ``eps``."""
    from sklearn.neighbors import NearestNeighbors

    n = min(max(min_samples, 2), len(features))
    distances, _ = NearestNeighbors(n_neighbors=n).fit(features).kneighbors(features)
    # of copies it is 0, which is no radius
    return max(float(np.median(distances[:, -1])), 1e-6)
