from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.partitions import dbscan, kmeans, typical_radius
from ufc_monai.clustering.pipeline import cluster_slices


def blobs(sizes: list[int], seed: int = 0) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Blobs of the given sizes, far apart, in random order, and the blob of each point."""
    rng = np.random.default_rng(seed)
    blob = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return 20 * np.eye(len(sizes), 8)[blob] + rng.normal(size=(len(blob), 8)), blob


def clustered(features: NDArray[Any], **settings: Any) -> Any:
    n = len(features)
    method = ClusteringMethod(centred=False, **settings)
    return cluster_slices(features, ["a"] * n, np.linspace(0, 1, n), method)


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
    labels, noise = dbscan(points, eps=eps, min_samples=least)
    sizes = np.bincount(labels)
    assert (np.diff(sizes) <= 0).all()
    assert sizes.sum() == len(values)
    assert (sizes > 0).all()
    assert (sizes == 1).sum() >= noise
    for cluster in range(len(sizes)):
        assert (np.diff(np.sort(points[labels == cluster, 0])) <= eps).all()


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
    eps = found.method.eps
    assert eps == pytest.approx(typical_radius(found.features, 4), rel=0.01)
    assert f"eps {eps:g}," in found.method.describe()
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
