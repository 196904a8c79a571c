from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.pipeline import cluster_slices
from ufc_monai.clustering.quality import agreement
from ufc_monai.clustering.tree import cut_tree


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
