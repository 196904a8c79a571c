"""Clusters of more slices than a tree can be made of: from the tree of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.centroids import assign, centroids
from ufc_monai.clustering.tree import by_size


def choose_landmarks(n: int, at_most: int, *, seed: int) -> NDArray[np.int64]:
    """The slices that a tree is made of, in order: all ``n``, or a random sample of ``at_most``.

    Example:
        >>> choose_landmarks(4, 10, seed=0).tolist()
        [0, 1, 2, 3]
    """
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=at_most, replace=False))


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
