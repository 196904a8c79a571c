from __future__ import annotations

from typing import Any

import pytest
from sklearn.cluster import HDBSCAN, BisectingKMeans

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import KMeans
from ufc_monai.clustering.method import ClusteringMethod


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
