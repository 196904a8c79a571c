from __future__ import annotations

import numpy as np

from ufc_monai.clustering.centroids import assign, centroids
from ufc_monai.clustering.tree import cut_tree, merge_tree


def test_centroids_by_hand() -> None:
    features = np.array([[1.0, 1.0], [5.0, 0.0], [3.0, 3.0]], dtype=np.float32)
    np.testing.assert_array_equal(centroids(features, np.array([1, 0, 1])), [[5, 0], [2, 2]])


def test_assign_takes_the_nearest() -> None:
    rng = np.random.default_rng(0)
    features, centres = rng.normal(size=(50, 4)), rng.normal(size=(6, 4))
    nearest = np.linalg.norm(features[:, None] - centres, axis=-1).argmin(axis=1)
    labels = assign(features, centres)
    np.testing.assert_array_equal(labels, nearest)
    assert labels.dtype == np.int64


def test_assign_agrees_with_the_tree_on_clear_clusters() -> None:
    rng = np.random.default_rng(1)
    features = 20 * np.eye(4)[rng.integers(0, 4, 80)] + rng.normal(size=(80, 4))
    labels = cut_tree(merge_tree(features), 4)
    np.testing.assert_array_equal(assign(features.astype(np.float32), centroids(features, labels)), labels)
