from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from sklearn import cluster
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import (
    DBSCAN,
    Agglomerative,
    KMeans,
    cut_tree,
    labels_of,
    landmark_labels,
    typical_radius,
)
from ufc_monai.clustering.pipeline import Clustering, ClusteringMethod, cluster_slices


def blobs(sizes: list[int], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Blobs of the given sizes, far apart, in random order, and the blob of each point."""
    rng = np.random.default_rng(seed)
    blob = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return 20 * np.eye(len(sizes), 8)[blob] + rng.normal(size=(len(blob), 8)), blob


def clustered(features: NDArray[Any], **settings: Any) -> Clustering:
    return cluster_slices(features, ["a"] * len(features), ClusteringMethod(centred=False, **settings))


def kmeans(features: NDArray[Any], n_clusters: int, seed: int = 0) -> NDArray[np.int64]:
    return labels_of(KMeans(n_clusters, seed).fit(features))


def dbscan(features: NDArray[Any], eps: float, min_samples: int) -> tuple[NDArray[np.int64], int]:
    fitted = DBSCAN(eps, min_samples).fit(features)
    return labels_of(fitted), int((fitted.labels_ < 0).sum())


def test_planted_blobs_are_found_and_numbered_by_size() -> None:
    features, blob = blobs([40, 30, 20, 10])
    np.testing.assert_array_equal(kmeans(features, 4), blob)
    labels, noise = dbscan(features, eps=6, min_samples=4)
    np.testing.assert_array_equal(labels, blob)
    assert noise == 0


def test_every_noise_point_is_its_own_cluster() -> None:
    features, _ = blobs([30, 20])
    outliers = 500 + 100 * np.arange(7)[:, None] * np.ones((7, 8))
    labels, noise = dbscan(np.vstack([outliers, features]), eps=6, min_samples=4)
    assert noise == 7
    np.testing.assert_array_equal(np.bincount(labels), [30, 20, *[1] * 7])
    assert labels[:7].tolist() == [2, 3, 4, 5, 6, 7, 8]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=30), st.floats(0.5, 4), st.integers(1, 5))
def test_noise_is_never_drawn_together(values: list[int], eps: float, least: int) -> None:
    """Two slices of one cluster are joined by steps of at most eps; a noise point is alone."""
    points = np.array(values, dtype=np.float64)[:, None]
    try:
        labels, noise = dbscan(points, eps=eps, min_samples=least)
    except InputError:  # all are one cluster
        return
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all()
    assert sizes.sum() == len(values)
    assert (sizes > 0).all()
    assert (sizes == 1).sum() >= noise
    for label in range(len(sizes)):
        assert (np.diff(np.sort(points[labels == label, 0])) <= eps).all()


def test_same_seed_same_clusters() -> None:
    features = np.random.default_rng(1).normal(size=(200, 5))
    np.testing.assert_array_equal(kmeans(features, 7, seed=3), kmeans(features, 7, seed=3))
    assert adjusted_rand_score(kmeans(features, 7, seed=3), kmeans(features, 7, seed=4)) < 1


def test_fewer_different_slices_than_clusters() -> None:
    labels = kmeans(np.repeat(np.eye(3), 4, axis=0), 5)
    np.testing.assert_array_equal(labels, np.repeat([0, 1, 2], 4))


def test_elbow_of_k_means_counts_the_blobs(caplog: pytest.LogCaptureFixture) -> None:
    features, blob = blobs([30] * 6)
    with caplog.at_level(logging.INFO):
        found = clustered(features, clustering="kmeans", k_range=(2, 20))
    assert found.elbow is not None
    assert found.elbow.n_clusters == found.n_clusters == 6
    assert adjusted_rand_score(found.labels, blob) == 1
    assert found.tree is None
    assert "16 fits at most, not of every k" in caplog.text
    given_k = clustered(features, clustering="kmeans", n_clusters=6)
    np.testing.assert_array_equal(given_k.labels, found.labels)
    assert given_k.elbow is None


def test_dbscan_tells_how_eps_fits(caplog: pytest.LogCaptureFixture) -> None:
    features, _ = blobs([30, 20])
    with caplog.at_level(logging.INFO):
        found = clustered(features, clustering="dbscan", eps=6)
    assert (found.n_clusters, found.tree, found.elbow) == (2, None, None)
    assert "0 of 50 slices are noise" in caplog.text
    with pytest.raises(InputError, match=r"eps: DBSCAN joins all 50 slices at eps 100.*smaller.*3 others within"):
        clustered(features, clustering="dbscan", eps=100)


@pytest.mark.parametrize("how", ["raw", "l2"])
def test_an_eps_that_is_left_open_makes_half_of_the_slices_cores(how: str) -> None:
    features = np.random.default_rng(3).normal(size=(60, 4))
    found = clustered(features, clustering="dbscan", feature_scaling=how)
    eps = float(found.provenance["method"].split()[2].strip(","))
    assert eps == pytest.approx(typical_radius(found.features, 4), rel=0.01)
    again = clustered(features, clustering="dbscan", feature_scaling=how, eps=eps)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_copies_have_a_radius() -> None:
    found = clustered(np.repeat(np.eye(3), 10, axis=0), clustering="dbscan")
    assert np.bincount(found.labels).tolist() == [10, 10, 10]


def test_typical_radius_makes_half_of_the_slices_cores() -> None:
    features = np.random.default_rng(2).normal(size=(101, 3))
    radius = typical_radius(features, 4)
    neighbours = (np.linalg.norm(features[:, None] - features, axis=-1) <= radius).sum(axis=1)
    assert (neighbours >= 4).sum() == 51
    assert typical_radius(features[:2], 4) > 0


ESTIMATORS = [
    cluster.KMeans(n_init=4),
    cluster.MiniBatchKMeans(n_init=3),
    cluster.BisectingKMeans(),
    cluster.AgglomerativeClustering(linkage="complete"),
    cluster.Birch(threshold=3.0),
    cluster.HDBSCAN(min_cluster_size=10, copy=True),
    cluster.MeanShift(bandwidth=8.0),
    cluster.OPTICS(min_samples=10, eps=6, cluster_method="dbscan"),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("seed", [0, 5])
def test_any_estimator_of_scikit_learn_groups_slices(estimator: Any, seed: int) -> None:
    features, blob = blobs([60, 50, 40, 30])
    if hasattr(estimator, "n_clusters"):
        estimator.n_clusters = 4
    found = clustered(features, clustering=estimator, seed=seed)
    core = np.isin(found.labels, np.flatnonzero(np.bincount(found.labels) > 1))
    assert core.mean() > 0.9
    assert adjusted_rand_score(found.labels[core], blob[core]) == 1
    assert found.provenance["method"].startswith(f"{type(estimator).__name__}(")
    assert "\n" not in found.provenance["method"]
    again = clustered(features, clustering=estimator, seed=seed)
    np.testing.assert_array_equal(again.labels, found.labels)
    assert not hasattr(estimator, "labels_")  # it is left as it came


def test_a_number_that_an_estimator_leaves_open_is_the_elbow() -> None:
    features, blob = blobs([30] * 6)
    found = clustered(features, clustering=cluster.BisectingKMeans(n_clusters=None), k_range=(2, 20))
    assert found.elbow is not None
    assert found.elbow.n_clusters == found.n_clusters == 6
    assert adjusted_rand_score(found.labels, blob) == 1
    assert "n_clusters=6" in found.provenance["method"]


@pytest.mark.parametrize("number", [None, 5])
@pytest.mark.parametrize("distances", [False, True])
def test_a_tree_of_scikit_learn_is_cut_as_ours(number: int | None, distances: bool) -> None:
    features = np.random.default_rng(4).normal(size=(120, 3))
    other = cluster.AgglomerativeClustering(None, compute_distances=distances)
    ours, theirs = (clustered(features, clustering=c, n_clusters=number) for c in ("agglomerative", other))
    assert ours.elbow is not None
    assert theirs.elbow is not None
    assert theirs.tree is not None
    np.testing.assert_array_equal(theirs.labels, ours.labels)
    assert theirs.elbow.n_clusters == ours.elbow.n_clusters
    assert theirs.elbow.distances == pytest.approx(ours.elbow.distances)
    np.testing.assert_array_equal(cut_tree(theirs.tree, 9), cut_tree(Agglomerative().fit(features).tree_, 9))


def test_a_distance_at_which_a_tree_is_cut_decides_alone() -> None:
    features, _ = blobs([30] * 6)
    chosen = cluster.AgglomerativeClustering(None, distance_threshold=0.1)
    found = clustered(features, clustering=chosen)
    np.testing.assert_array_equal(found.labels, labels_of(chosen.fit(features)))
    assert found.n_clusters > 100
    assert found.tree is not None
    with pytest.raises(InputError, match=r"n_clusters: AgglomerativeClustering finds the number of clusters by itself"):
        ClusteringMethod(clustering=chosen, n_clusters=3)


class ByHalves:
    """No estimator of scikit-learn, just what is asked of one."""

    def fit(self, features: NDArray[np.float64]) -> None:
        self.labels_ = (features[:, 0] > 0).astype(int)


def test_fit_and_labels_are_all_that_a_clustering_needs() -> None:
    features = np.random.default_rng(5).normal(size=(50, 2))
    found = clustered(features, clustering=ByHalves())
    assert adjusted_rand_score(found.labels, features[:, 0] > 0) == 1
    assert (found.provenance["method"], found.tree, found.elbow) == ("ByHalves", None, None)
    with pytest.raises(InputError, match="n_clusters: ByHalves finds the number of clusters by itself"):
        ClusteringMethod(clustering=ByHalves(), n_clusters=3)
    with pytest.raises(InputError, match="clustering: ByHalves joins all 50 slices; one cluster has no negatives"):
        clustered(abs(features), clustering=ByHalves())


def test_an_estimator_that_cannot_be_fitted_is_named() -> None:
    with pytest.raises(InputError, match=r"clustering: BisectingKMeans\(.*n_clusters") as error:
        clustered(np.eye(4), clustering=cluster.BisectingKMeans(n_clusters=2.5))
    assert "\n" not in str(error.value)


def test_an_estimator_without_labels_is_refused() -> None:
    class Nothing:
        def fit(self, features: NDArray[Any]) -> None:
            pass

    with pytest.raises(InputError, match="Nothing leaves no labels_, one for each of 9 slices"):
        clustered(blobs([4, 5])[0], clustering=Nothing())


def test_planted_blobs_are_found_and_numbered_by_size_of_tree() -> None:
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
