from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, BisectingKMeans
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import KMeans, cut_tree
from ufc_monai.clustering.pipeline import ClusteringMethod, cluster_slices
from ufc_monai.clustering.quality import agreement


def patients_at_levels(patient_effect: float) -> tuple[NDArray[np.float64], list[str], NDArray[np.float64]]:
    """Features of 6 patients, 40 slices each, at 4 levels of the body, and a shift of each patient's own."""
    rng = np.random.default_rng(0)
    patient, position = np.repeat(np.arange(6), 40), np.tile(np.linspace(0, 1, 40), 6)
    level = np.minimum((position * 4).astype(int), 3)
    features = 10 * np.eye(4, 12)[level] + patient_effect * np.eye(6, 12, k=4)[patient]
    return features + rng.normal(size=features.shape), [f"p{i}" for i in patient], position


def test_levels_are_found_and_everything_fits_together() -> None:
    features, patients, positions = patients_at_levels(0)
    result = cluster_slices(features, patients, ClusteringMethod(k_range=(2, 20)))
    assert result.elbow is not None
    assert result.tree is not None
    assert result.n_clusters == result.elbow.n_clusters == 4
    np.testing.assert_array_equal(np.bincount(result.labels), [60] * 4)
    np.testing.assert_array_equal(result.labels, cut_tree(result.tree, 4))
    assert result.features.shape == (240, 12)
    assert sorted(result.patient_means) == [f"p{i}" for i in range(6)]
    follows = agreement(result.labels, patients, positions)
    assert follows["nmi_patient"] <= follows["nmi_position"]


def test_centring_takes_the_patient_out() -> None:
    features, patients, positions = patients_at_levels(30)
    plain = cluster_slices(features, patients, ClusteringMethod(n_clusters=6, centred=False))
    centred = cluster_slices(features, patients, ClusteringMethod(n_clusters=6))
    assert plain.patient_means == {}
    follows_plain, follows = (agreement(found.labels, patients, positions) for found in (plain, centred))
    assert follows_plain["nmi_patient"] == pytest.approx(1)
    assert follows["nmi_patient"] < 0.1 < follows["nmi_position"]


def test_given_number_wins_and_the_elbow_is_still_told() -> None:
    features, patients, _ = patients_at_levels(0)
    result = cluster_slices(features, patients, ClusteringMethod(n_clusters=7, k_range=(2, 20)))
    assert result.n_clusters == 7
    assert len(np.unique(result.labels)) == 7
    assert result.elbow is not None
    assert result.elbow.n_clusters == 4


def test_order_of_the_slices_does_not_matter() -> None:
    features, patients, _ = patients_at_levels(5)
    order = np.random.default_rng(1).permutation(len(features))
    straight = cluster_slices(features, patients)
    shuffled = cluster_slices(features[order], [patients[i] for i in order])
    assert shuffled.n_clusters == straight.n_clusters
    np.testing.assert_array_equal(np.bincount(shuffled.labels), np.bincount(straight.labels))
    assert adjusted_rand_score(shuffled.labels, straight.labels[order]) == 1


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("n_clusters", [None, 2])
def test_few_slices(n: int, n_clusters: int | None) -> None:
    features = np.random.default_rng(2).normal(size=(n, 3))
    result = cluster_slices(features, ["a"] * n, ClusteringMethod(n_clusters=n_clusters))
    assert result.elbow is not None
    assert len(np.unique(result.labels)) == (n_clusters or result.elbow.n_clusters)


@pytest.mark.parametrize("clustering", ["agglomerative", "kmeans"])
def test_more_clusters_than_slices(clustering: str) -> None:
    with pytest.raises(InputError, match="n_clusters must be 1 to 240 for 240 slices, got 241"):
        cluster_slices(*patients_at_levels(0)[:2], ClusteringMethod(clustering=clustering, n_clusters=241))


@pytest.mark.parametrize("centred", [True, False])
def test_features_that_are_not_finite(centred: bool) -> None:
    features, patients, _ = patients_at_levels(0)
    features[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinite"):
        cluster_slices(features, patients, ClusteringMethod(centred=centred))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_slices(n: int) -> None:
    with pytest.raises(InputError, match=f"2 slices or more, got {n}"):
        cluster_slices(np.zeros((n, 4)), ["a"] * n)


def test_lengths_that_differ() -> None:
    features, patients, _ = patients_at_levels(0)
    with pytest.raises(ValueError, match="got 240 features, 239 patients"):
        cluster_slices(features, patients[1:])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "agglomerative, Ward linkage, Euclidean"),
        (
            {"linkage": "average", "feature_scaling": "l2"},
            "agglomerative, average linkage, Euclidean; features of length 1",
        ),
        (
            {"clustering": "kmeans", "seed": 3, "feature_scaling": "standardised"},
            "k-means, seed 3; features standardised",
        ),
        ({"clustering": "dbscan", "eps": 0.25}, "DBSCAN, eps 0.25, min_samples 4"),
        ({"clustering": "kmeans", "feature_scaling": "pca"}, "k-means, seed 0; principal components (0.9)"),
    ],
)
def test_a_method_in_words(settings: dict[str, Any], words: str) -> None:
    assert ClusteringMethod(**settings).describe() == words


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"clustering": "kmean"},
            "clustering must be one of agglomerative, kmeans, dbscan, or .*; got 'kmean'",
        ),
        (
            {"clustering": KMeans},
            "clustering must be one of agglomerative, kmeans, dbscan, or an object with a fit; got <class",
        ),
        ({"clustering": {"n_clusters": 3}}, "clustering must be one of"),
        ({"clustering": HDBSCAN(), "n_clusters": 5}, "n_clusters: HDBSCAN finds the number of clusters by itself"),
        ({"seed": -1}, "seed must be a whole number of 0 to 4294967295; got -1"),
        ({"linkage": "single"}, "linkage must be one of ward, average, complete; got 'single'"),
        ({"feature_scaling": None}, "feature_scaling must be one of raw, standardised, l2, pca; got None"),
        ({"n_clusters": 1}, "n_clusters must be 2 or more: one cluster has no negatives; got 1"),
        ({"n_clusters": "many"}, "n_clusters must be 2 or more"),
        ({"k_range": [1, 5]}, r"k_range must be \[smallest, largest\].*; got \[1, 5\]"),
        ({"k_range": [7, 3]}, "k_range must be"),
        ({"k_range": 7}, "k_range must be"),
        ({"k_range": [2, 3.5]}, "k_range must be"),
        ({"pca_components": 0}, "pca_components must be a number of components, or a share of the variance below 1"),
        ({"pca_components": 1.5}, "pca_components must be"),
        ({"max_slices_in_tree": 1}, "max_slices_in_tree must be 2 or more, or null; got 1"),
        ({"eps": 0}, "eps must be a number above 0, or null; got 0"),
        ({"eps": float("nan")}, "eps must be a number above 0"),
        ({"min_samples": 0}, "min_samples must be a whole number of 1 or more"),
        ({"clustering": "dbscan", "n_clusters": 5}, "n_clusters: dbscan finds the number of clusters by eps"),
    ],
)
def test_an_invalid_value_is_named_by_its_key(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        ClusteringMethod(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "most"),
    [({}, 100_000), ({"linkage": "average"}, 30_000), ({"linkage": "complete", "max_slices_in_tree": 70}, 70)],
)
def test_largest_tree(settings: dict[str, Any], most: int) -> None:
    assert ClusteringMethod(**settings).clusterer().largest_tree == most


def test_settings_of_one_that_is_handed_over_are_its_own() -> None:
    own = BisectingKMeans(n_clusters=5)
    made = ClusteringMethod(clustering=own, seed=3).clusterer()
    assert (made.n_clusters, made.random_state) == (5, 3)
    assert ClusteringMethod(clustering=own, n_clusters=7).clusterer().n_clusters == 7
    assert ClusteringMethod(clustering=BisectingKMeans(random_state=9)).clusterer().random_state == 9
    assert (own.n_clusters, own.random_state) == (5, None)
