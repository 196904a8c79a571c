from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import Agglomerative
from ufc_monai.clustering.tree import cut_tree, landmark_labels


def blobs(sizes: list[int], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Blobs of the given sizes, far apart, in random order, and the blob of each point."""
    rng = np.random.default_rng(seed)
    blob = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return 20 * np.eye(len(sizes), 8)[blob] + rng.normal(size=(len(blob), 8)), blob


def test_planted_blobs_are_found_and_numbered_by_size() -> None:
    features, blob = blobs([40, 30, 20, 10])
    np.testing.assert_array_equal(cut_tree(Agglomerative().fit(features).tree_, 4), blob)


def test_tree_is_what_scipy_specifies() -> None:
    tree = Agglomerative().fit(np.array([[0.0], [1.0], [10.0]], dtype=np.float32)).tree_
    assert tree.dtype == np.float64
    # Ward's height of a pair is its distance; of a pair and a point, sqrt(2 * 2 / 3) times that of their means.
    np.testing.assert_allclose(tree, [[0, 1, 1, 2], [2, 3, np.sqrt(4 / 3) * 9.5, 3]])


def test_order_of_the_slices_does_not_matter() -> None:
    features = np.random.default_rng(1).normal(size=(150, 6))
    order = np.random.default_rng(2).permutation(len(features))
    for k in (2, 7, 30):
        straight, shuffled = (
            cut_tree(Agglomerative().fit(features).tree_, k),
            cut_tree(Agglomerative().fit(features[order]).tree_, k),
        )
        assert adjusted_rand_score(straight[order], shuffled) == 1
        np.testing.assert_array_equal(np.bincount(straight), np.bincount(shuffled))


def test_same_features_give_the_same_tree() -> None:
    features, _ = blobs([20, 20])
    np.testing.assert_array_equal(Agglomerative().fit(features).tree_, Agglomerative().fit(features.copy()).tree_)


@pytest.mark.parametrize("k", [1, 2, 5, 20, 119, 120])
def test_cut_of_a_stored_tree_equals_a_new_fit(k: int) -> None:
    features = np.random.default_rng(3).normal(size=(120, 5))
    fitted = AgglomerativeClustering(n_clusters=k, linkage="ward").fit_predict(features)
    assert adjusted_rand_score(cut_tree(Agglomerative().fit(features).tree_, k), fitted) == 1


@pytest.mark.parametrize("features", [np.zeros((12, 3)), np.repeat(np.eye(3), 4, axis=0), np.arange(12.0)[:, None]])
def test_ties_do_not_change_the_number_of_clusters(features: NDArray[Any]) -> None:
    tree = Agglomerative().fit(features).tree_
    for k in range(1, 13):
        assert len(np.unique(cut_tree(tree, k))) == k


def test_equal_sizes_are_numbered_by_first_slice() -> None:
    features = np.array([[9.0], [0.0], [5.0], [5.0], [0.0], [9.0]])
    np.testing.assert_array_equal(cut_tree(Agglomerative().fit(features).tree_, 3), [0, 1, 2, 2, 1, 0])
    np.testing.assert_array_equal(cut_tree(Agglomerative().fit(features).tree_, 6), np.arange(6))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=25), st.data())
def test_cuts_are_nested_and_sorted_by_size(values: list[int], data: st.DataObject) -> None:
    tree = Agglomerative().fit(np.array(values, dtype=np.float64)[:, None]).tree_
    k = data.draw(st.integers(1, len(values) - 1))
    coarse, fine = cut_tree(tree, k), cut_tree(tree, k + 1)
    sizes = np.bincount(fine)
    assert len(sizes) == k + 1
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    assert len(np.unique(np.stack([coarse, fine]), axis=1).T) == k + 1  # every fine cluster lies in one coarse cluster


@pytest.mark.parametrize("k", [0, -1, 4])
def test_impossible_number_of_clusters(k: int) -> None:
    with pytest.raises(InputError, match=f"n_clusters must be 1 to 3 for 3 slices, got {k}"):
        cut_tree(Agglomerative().fit(np.eye(3)).tree_, k)


@pytest.mark.parametrize("linkage", ["ward", "average", "complete"])
def test_linkages_are_those_of_scikit_learn(linkage: str) -> None:
    features = np.random.default_rng(4).normal(size=(90, 4))
    for k in (2, 9, 40):
        fitted = AgglomerativeClustering(n_clusters=k, linkage=linkage).fit_predict(features)
        assert adjusted_rand_score(cut_tree(Agglomerative(linkage).fit(features).tree_, k), fitted) == 1


def test_sample_is_seeded_sorted_and_distinct() -> None:
    points = np.random.default_rng(0).normal(size=(1000, 2))

    def choose_landmarks(n: int, most: int, seed: int) -> NDArray[np.int64]:
        return Agglomerative(max_slices_in_tree=most, seed=seed).fit(points[:n]).landmarks_

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
    chosen = Agglomerative(max_slices_in_tree=80).fit(points).landmarks_
    labels = cut_tree(linkage(points[chosen], "ward"), 5)
    assert adjusted_rand_score(landmark_labels(points, chosen, labels), blob) == 1


def test_a_tree_of_all_is_cut_as_it_is() -> None:
    points = np.random.default_rng(2).normal(size=(50, 3))
    labels = cut_tree(linkage(points, "ward"), 7)
    np.testing.assert_array_equal(landmark_labels(points, np.arange(50), labels), labels)


def test_landmarks_stay_together() -> None:
    points = np.random.default_rng(1).normal(size=(200, 3))
    chosen = Agglomerative(max_slices_in_tree=60).fit(points).landmarks_
    labels = cut_tree(linkage(points[chosen], "ward"), 6)
    everyone = landmark_labels(points, chosen, labels)
    assert adjusted_rand_score(everyone[chosen], labels) == 1
    sizes = np.bincount(everyone)
    assert len(sizes) == 6
    assert (np.diff(sizes) <= 0).all()
