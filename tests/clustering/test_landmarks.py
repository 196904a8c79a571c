from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import linkage
from sklearn.metrics import adjusted_rand_score

from ufc_monai.clustering import cut_tree
from ufc_monai.clustering.landmarks import choose_landmarks, landmark_labels


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


def test_landmarks_keep_their_labels() -> None:
    points = np.random.default_rng(1).normal(size=(200, 3))
    chosen = choose_landmarks(200, 60, seed=0)
    labels = cut_tree(linkage(points[chosen], "ward"), 6)
    everyone = landmark_labels(points, chosen, labels)
    np.testing.assert_array_equal(everyone[chosen], labels)
    assert set(everyone.tolist()) == set(range(6))
