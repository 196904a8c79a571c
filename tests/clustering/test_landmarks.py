from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import linkage
from sklearn.metrics import adjusted_rand_score

from ufc_monai.clustering.landmarks import choose_landmarks, landmark_labels
from ufc_monai.clustering.tree import cut_tree


def test_sample_is_seeded_sorted_and_distinct() -> None:
    chosen = choose_landmarks(1000, 100, seed=3)
    assert len(chosen) == 100
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose_landmarks(1000, 100, seed=3))
    assert not np.array_equal(chosen, choose_landmarks(1000, 100, seed=4))
    np.testing.assert_array_equal(choose_landmarks(100, 100, seed=3), np.arange(100))


def test_blobs_are_found_from_a_sample() -> None:
    rng = np.random.default_rng(0)
    blob = rng.integers(5, size=600)
    points = 20 * np.eye(5, 8)[blob] + rng.normal(size=(600, 8))
    chosen = choose_landmarks(600, 80, seed=0)
    labels = cut_tree(linkage(points[chosen], "ward"), 5)
    assert adjusted_rand_score(landmark_labels(points, chosen, labels), blob) == 1


def test_a_tree_of_all_is_cut_as_it_is() -> None:
    points = np.random.default_rng(2).normal(size=(50, 3))
    labels = cut_tree(linkage(points, "ward"), 7)
    np.testing.assert_array_equal(landmark_labels(points, np.arange(50), labels), labels)


def test_landmarks_stay_together() -> None:
    points = np.random.default_rng(1).normal(size=(200, 3))
    chosen = choose_landmarks(200, 60, seed=0)
    labels = cut_tree(linkage(points[chosen], "ward"), 6)
    everyone = landmark_labels(points, chosen, labels)
    assert adjusted_rand_score(everyone[chosen], labels) == 1
    sizes = np.bincount(everyone)
    assert len(sizes) == 6
    assert (np.diff(sizes) <= 0).all()
