"""The space that slices are clustered in: features centred per patient and scaled, and the centres of clusters there.

Needs NumPy alone where slices are not clustered: a server paints clusters by :func:`load_space`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_arrays


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


def fit_scaling(features: NDArray[Any], how: str, pca_components: float = 0.9) -> Scaling:
    """Fit the map of features to the space that is clustered.

    Args:
        features: what it is fitted to, (n, d), after centring.
        how: ``feature_scaling`` of :class:`~ufc_monai.clustering.ClusteringMethod`.
        pca_components: of the same, for ``"pca"``.

    Raises:
        InputError: if there are fewer components than asked for.
    """
    n, d = features.shape
    if how == "standardised":
        from sklearn.preprocessing import StandardScaler

        fitted = StandardScaler().fit(features)
        return Scaling(fitted.mean_, np.diag(1 / fitted.scale_), False)
    if how == "pca":
        if pca_components > min(n, d):
            raise InputError(f"pca_components: {n} features of length {d} have no {pca_components} components.")
        from sklearn.decomposition import PCA

        fitted = PCA(pca_components, svd_solver="full").fit(features)
        return Scaling(fitted.mean_, fitted.components_.T, False)
    return Scaling(np.zeros(d), np.eye(d), how == "l2")


def centre_per_patient(
    features: NDArray[Any], patients: Sequence[str]
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Subtract from every slice's feature the mean feature of its patient.

    Otherwise clusters follow the scanner and the patient rather than the anatomy.

    Args:
        features: (n, d).
        patients: the patient of each slice.

    Returns:
        The centred features (n, d) and each patient's mean (d,), patients sorted.
    """
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    means = centroids(features, index)
    return features - means[index], dict(zip(names.tolist(), means, strict=True))


def centroids(features: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean feature of each cluster, (k, d), for labels 0 to k - 1."""
    sums = np.zeros((int(labels.max()) + 1, features.shape[1]))
    np.add.at(sums, labels, features)
    return sums / np.bincount(labels)[:, None]


def assign(features: NDArray[Any], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """The centre that is nearest to each new slice, (n,).

    A tree has no rule for slices that it did not see; this one (Voronoi cells) is close to it, not the same.
    """
    from sklearn.metrics import pairwise_distances_argmin  # here and below: a server paints clusters without it

    return np.asarray(pairwise_distances_argmin(np.asarray(features, dtype=np.float64), centres), dtype=np.int64)


class PrototypeRule(NamedTuple):
    """The clusters of those prototypes that fit some slice best.

    Attributes:
        vectors: (m, d).
        similarity: of a feature and a prototype, ``dot``, ``cosine`` or ``squared_distance``, the negative one.
        clusters: of each, (m,).
    """

    vectors: NDArray[np.floating[Any]]
    similarity: str
    clusters: NDArray[np.int64]

    def assign(self, features: NDArray[Any]) -> NDArray[np.int64]:
        """The cluster of the prototype that fits each feature (n, d) best, (n,)."""
        vectors = self.vectors.astype(np.float64)
        if self.similarity == "cosine":
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-8)
        scores = features @ vectors.T
        if self.similarity == "squared_distance":  # without the feature's own square, which is the same for all
            scores = 2 * scores - np.square(vectors).sum(axis=1)
        return np.asarray(self.clusters[scores.argmax(axis=1)])


class ClusterSpace(NamedTuple):
    """What :func:`load_space` reads.

    Attributes:
        scaling: how features come there.
        centres: of the clusters, (k, m).
        centred: whether each patient's mean is taken from the features before.
        model_sha256: of the network that the features come from; empty if it is not known.
        prototypes: whose clusters they are, if they are those of prototypes.
    """

    scaling: Scaling
    centres: NDArray[np.float64]
    centred: bool
    model_sha256: str
    prototypes: PrototypeRule | None

    def assign(self, features: NDArray[Any]) -> NDArray[np.int64]:
        """The clusters of new slices by their features (n, m), centred and scaled: best prototype or nearest centre."""
        nearest = PrototypeRule(self.centres, "squared_distance", np.arange(len(self.centres)))
        return (self.prototypes or nearest).assign(features)


def load_space(path: str | os.PathLike[str]) -> ClusterSpace:
    """Read ``centroids.npz``.

    Raises:
        InputError: if it is missing, damaged or lacks something.
    """
    file = read_arrays(path, "shift", "matrix", "unit", "centroids", "patients")
    scaling, centred = Scaling(file["shift"], file["matrix"], bool(file["unit"])), len(file["patients"]) > 0
    rule = PrototypeRule(file["vectors"], str(file["similarity"]), file["clusters"]) if "vectors" in file else None
    return ClusterSpace(scaling, file["centroids"], centred, str(file.get("model_sha256", "")), rule)
