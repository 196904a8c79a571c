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
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.scaling import fit_scaling

FEATURES = np.random.default_rng(0).normal(size=(40, 6)) * [1, 5, 0.1, 2, 1, 3] + 7


def scaled(features: Any, how: str, components: float = 0.9) -> Any:
    method = ClusteringMethod(feature_scaling=how, pca_components=components)
    return fit_scaling(features, method)(features)


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
    scaling = fit_scaling(FEATURES, ClusteringMethod(feature_scaling=how))
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
