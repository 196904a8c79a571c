"""The space that is clustered: features as they are, standardised, of length 1, or their principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.space import Scaling


def fit_scaling(features: NDArray[Any], method: ClusteringMethod) -> Scaling:
    """The map that ``feature_scaling`` and ``pca_components`` ask for.

    Args:
        features: what it is fitted to, (n, d), after centring.
        method: see above.

    Raises:
        InputError: if there are fewer components than asked for.
    """
    n, d = features.shape
    if method.feature_scaling == "standardised":
        fitted = StandardScaler().fit(features)
        return Scaling(fitted.mean_, np.diag(1 / fitted.scale_), False)
    if method.feature_scaling == "pca":
        if method.pca_components > min(n, d):
            raise InputError(f"pca_components: {n} features of length {d} have no {method.pca_components} components.")
        from sklearn.decomposition import PCA  # which few methods use, and takes its time

        fitted = PCA(method.pca_components, svd_solver="full").fit(features)
        return Scaling(fitted.mean_, fitted.components_.T, False)
    return Scaling(np.zeros(d), np.eye(d), method.feature_scaling == "l2")
