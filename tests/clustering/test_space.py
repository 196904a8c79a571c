from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import Agglomerative, cut_tree
from ufc_monai.clustering.space import ClusterSpace, PrototypeRule, assign, centre_per_patient, centroids, fit_scaling


def test_every_patient_has_mean_zero_and_its_mean_is_told() -> None:
    features = np.array([[1.0, 2.0], [10.0, 0.0], [3.0, 6.0], [20.0, 4.0]], dtype=np.float32)
    centred, means = centre_per_patient(features, ["b", "a", "b", "a"])
    np.testing.assert_array_equal(centred, [[-1, -2], [-5, -2], [1, 2], [5, 2]])
    assert list(means) == ["a", "b"]
    np.testing.assert_array_equal(means["a"], [15, 2])
    np.testing.assert_array_equal(means["b"], [2, 4])


def test_shift_of_one_patient_is_removed() -> None:
    features = np.random.default_rng(0).normal(size=(20, 3))
    patients = ["a"] * 12 + ["b"] * 8
    shifted = features + np.where(np.arange(20) < 12, 100.0, 0.0)[:, None]
    np.testing.assert_allclose(centre_per_patient(shifted, patients)[0], centre_per_patient(features, patients)[0])


def test_input_is_left_alone() -> None:
    features = np.ones((3, 2))
    centre_per_patient(features, ["a", "a", "b"])
    np.testing.assert_array_equal(features, np.ones((3, 2)))


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


def test_prototypes_go_before_centres() -> None:
    """Both slices are nearest to the first centre; of the prototypes they fit the second best, of cluster 3."""
    features = np.array([[1.0, 0.0], [2.0, 1.0]])
    space = ClusterSpace(fit_scaling(features, "raw"), np.array([[1.0, 0.0], [9.0, 9.0]]), False, "", None)
    assert space.assign(features).tolist() == [0, 0]
    rule = PrototypeRule(np.array([[-1.0, 0.0], [1.0, 0.0]]), "dot", np.array([0, 3]))
    assert space._replace(prototypes=rule).assign(features).tolist() == [3, 3]


def test_assign_agrees_with_the_tree_on_clear_clusters() -> None:
    rng = np.random.default_rng(1)
    features = 20 * np.eye(4)[rng.integers(0, 4, 80)] + rng.normal(size=(80, 4))
    labels = cut_tree(Agglomerative().fit(features).tree_, 4)
    np.testing.assert_array_equal(assign(features.astype(np.float32), centroids(features, labels)), labels)


FEATURES = np.random.default_rng(0).normal(size=(40, 6)) * [1, 5, 0.1, 2, 1, 3] + 7


def scaled(features: Any, how: str, components: float = 0.9) -> Any:
    return fit_scaling(features, how, components)(features)


def test_scalings_are_those_of_scikit_learn() -> None:
    np.testing.assert_array_equal(scaled(FEATURES, "raw"), FEATURES)
    np.testing.assert_allclose(scaled(FEATURES, "standardised"), StandardScaler().fit_transform(FEATURES))
    np.testing.assert_allclose(scaled(FEATURES, "l2"), normalize(FEATURES))
    expected = PCA(2, svd_solver="full").fit_transform(FEATURES)
    np.testing.assert_allclose(scaled(FEATURES, "pca", 2), expected, atol=1e-9)


def test_share_of_the_variance() -> None:
    kept = [scaled(FEATURES, "pca", share) for share in (0.3, 0.9, 0.999)]
    variance = FEATURES.var(axis=0).sum()
    for part, share in zip(kept, (0.3, 0.9, 0.999), strict=True):
        assert part.var(axis=0).sum() >= share * variance > part[:, :-1].var(axis=0).sum()


def test_more_components_than_there_are() -> None:
    with pytest.raises(InputError, match="pca_components: 40 features of length 6 have no 7 components"):
        scaled(FEATURES, "pca", 7)


@pytest.mark.parametrize("how", ["raw", "standardised", "l2", "pca"])
def test_new_slices_go_the_same_way(how: str) -> None:
    scaling = fit_scaling(FEATURES, how)
    np.testing.assert_allclose(scaling(FEATURES[3:5].astype(np.float32)), scaling(FEATURES)[3:5], rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.float64, (7, 3), elements=st.integers(-4, 4).map(float)), st.sampled_from(["raw", "standardised", "l2"])
)
def test_constant_dimensions_and_empty_features_stay_finite(features: Any, how: str) -> None:
    result = scaled(features, how)
    assert np.isfinite(result).all()
    if how == "l2":
        lengths = np.linalg.norm(result, axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(features, axis=1) > 0)
    if how == "standardised":
        np.testing.assert_allclose(result.var(axis=0), np.ptp(features, axis=0) > 0)
