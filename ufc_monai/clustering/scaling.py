"""The space that is clustered: features as they are, standardised, of length 1, or their principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.errors import InputError

__all__ = ["Scaling", "fit_scaling"]


@dataclass(frozen=True)
class Scaling:
    """A map of features that new slices can go through, too: shift, then matrix, then perhaps to length 1.

    Attributes:
        shift: (d,).
        matrix: (d, m).
        unit: whether each feature is divided by its length; one of length 0 stays.
    """

    shift: NDArray[np.float64]
    matrix: NDArray[np.float64]
    unit: bool

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Map features (n, d) to (n, m)."""
        scaled: NDArray[np.float64] = (np.asarray(features, dtype=np.float64) - self.shift) @ self.matrix
        if self.unit:
            lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
            scaled /= np.where(lengths > 0, lengths, 1.0)
        return scaled


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
        fitted = PCA(method.pca_components, svd_solver="full").fit(features)
        return Scaling(fitted.mean_, fitted.components_.T, False)
    return Scaling(np.zeros(d), np.eye(d), method.feature_scaling == "l2")
