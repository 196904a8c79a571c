"""Features to clusters, step by step."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import Agglomerative, labels_of, takes_number, tree_of, words
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters, fitted_curve, tree_curve
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.space import Scaling, centre_per_patient, fit_scaling
from ufc_monai.clustering.tree import cut_tree, landmark_labels

logger = logging.getLogger(__name__)

FITS = 16
"""Numbers of clusters at most that a clustering without a tree is fitted with to find its elbow."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of slices.

    Attributes:
        labels: the cluster of each slice, 0 to k - 1, (n,).
        features: what was clustered, (n, m): centred and scaled.
        scaling: how features that are centred become those.
        patient_means: what was subtracted for each patient; empty without centring.
        tree: SciPy's linkage matrix, to cut at another number; ``None`` where the clustering makes none.
        landmarks: indices of the slices that the tree is made of, all or a sample, (m,); ``None`` without a tree.
        elbow: the curve over the number of clusters. A tree's is drawn even where ``n_clusters`` was given; without a
            tree there is none then, nor where the clustering finds its number itself.
        provenance: how the clusters came about, as the file of pseudo-labels keeps it: JSON values.
    """

    labels: NDArray[np.int64]
    features: NDArray[np.float64]
    scaling: Scaling
    patient_means: dict[str, NDArray[np.float64]]
    tree: NDArray[np.float64] | None = None
    landmarks: NDArray[np.int64] | None = None
    elbow: Elbow | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def n_clusters(self) -> int:
        """The number of clusters."""
        return int(self.labels.max()) + 1


def cluster_slices(
    features: NDArray[Any], patients: Sequence[str], method: ClusteringMethod | None = None
) -> Clustering:
    """Centre, scale, cluster.

    Args:
        features: posterior means, (n, d).
        patients: the patient of each slice.
        method: how; ``None`` is Ward's tree of the centred features, cut at the elbow.

    Raises:
        InputError: at fewer than two slices, features that are not finite, or a method that the slices do not allow.
    """
    method = method or ClusteringMethod()
    if len(features) != len(patients):
        raise ValueError(f"expected a patient for each feature, got {len(features)} features, {len(patients)} patients")
    features = np.asarray(features, dtype=np.float64)
    _check_features(features)
    means: dict[str, NDArray[np.float64]] = {}
    if method.centred:
        features, means = centre_per_patient(features, patients)
    scaling = fit_scaling(features, method.feature_scaling, method.pca_components)
    features = scaling(features)
    fitted, found = _group(features, method)
    if not found["labels"].any():
        raise InputError(f"clustering: {words(fitted)} joins all {len(features)} slices; one cluster has no negatives.")
    told = {"method": method.describe(fitted), "centred_per_patient": method.centred, "seed": method.seed}
    told |= {"slices_in_tree": len(found["landmarks"])} if "landmarks" in found else {}
    told |= {"elbow": found["elbow"].provenance()} if "elbow" in found else {}
    return Clustering(features=features, scaling=scaling, patient_means=means, provenance=told, **found)


def _check_features(features: NDArray[Any]) -> None:
    if len(features) < 2:
        raise InputError(f"clustering needs 2 slices or more, got {len(features)}. Check dataset_dir.")
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinite values: the VAE diverged. Train it with a lower learning_rate.")


def _group(features: NDArray[np.float64], method: ClusteringMethod) -> tuple[Any, dict[str, Any]]:
    """The fitted clusterer, and what of :class:`Clustering` it gives: labels and, if there are, tree and elbow."""
    clusterer, n = method.clusterer(), len(features)
    number = getattr(clusterer, "n_clusters", None)
    if isinstance(number, int) and number > n:
        raise InputError(f"n_clusters must be 1 to {n} for {n} slices, got {number}.")
    search = partial(choose_n_clusters, k_range=method.k_range, batch_size=method.batch_size)

    @cache
    def fit(k: int) -> Any:
        return _fitted(clusterer, k, features)

    fitted = fit(number or min(method.k_range[0], n))
    tree = tree_of(fitted)
    if tree is not None:
        if not takes_number(clusterer) and hasattr(fitted, "labels_"):
            number = int(fitted.labels_.max()) + 1
        landmarks = getattr(fitted, "landmarks_", np.arange(n))
        elbow = search(partial(tree_curve, features[landmarks], tree), len(landmarks))
        labels = landmark_labels(features, landmarks, cut_tree(tree, number or elbow.n_clusters))
        fitted.n_clusters = None  # the tree is the same for each
        return fitted, {"labels": labels, "tree": tree, "landmarks": landmarks, "elbow": elbow}
    if number is not None or not takes_number(clusterer):
        return fitted, {"labels": labels_of(fitted)}
    logger.info("%s: no tree to cut, so the elbow is that of %d fits at most, not of every k", words(clusterer), FITS)
    elbow = search(partial(fitted_curve, features, lambda k: labels_of(fit(k))), n, most=FITS)
    fitted = fit(elbow.n_clusters)
    return fitted, {"labels": labels_of(fitted), "elbow": elbow}


def _fitted(clusterer: Any, n_clusters: int, features: NDArray[np.float64]) -> Any:
    """A copy, fitted; to ``n_clusters`` if that can be set."""
    from threadpoolctl import threadpool_limits  # which a server has no use for

    one = copy.copy(clusterer)
    if takes_number(one):
        one.n_clusters = n_clusters
    # Several threads add in the order in which they finish, and the last bits would differ from run to run; not Ward's.
    with threadpool_limits(None if isinstance(one, Agglomerative) else 1):
        try:
            one.fit(features)
        except InputError:
            raise
        except (TypeError, ValueError) as e:
            raise InputError(f"clustering: {words(one)} cannot be fitted: {' '.join(str(e).split())}") from e
    if not hasattr(one, "tree_") and np.shape(getattr(one, "labels_", ())) != (len(features),):
        raise InputError(f"clustering: {words(one)} leaves no labels_, one for each of {len(features)} slices.")
    return one
