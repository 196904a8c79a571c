"""Features to clusters, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.agreement import agreement
from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.centroids import centroids
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.partitions import dbscan, kmeans, typical_radius
from ufc_monai.clustering.scaling import Scaling, fit_scaling
from ufc_monai.clustering.tree import cut_tree, merge_tree
from ufc_monai.errors import InputError

__all__ = ["Clustering", "cluster_slices"]

logger = logging.getLogger(__name__)

FITS = 16
"""Numbers of clusters at most that k-means is fitted with to find its elbow."""


@dataclass(frozen=True)
class Clustering:
    """Clusters of slices.

    Attributes:
        labels: the cluster of each slice, (n,).
        n_clusters: their number.
        tree: SciPy's linkage matrix, to cut at another number; ``None`` but for agglomerative clustering.
        elbow: the curve over the number of clusters. A tree's is drawn even where ``n_clusters`` was given; there is
            none for k-means then, and never for DBSCAN.
        features: what was clustered, (n, m): centred and scaled.
        scaling: how features that are centred become those.
        centroids: (k, m), in the space that was clustered.
        patient_means: what was subtracted for each patient; empty without centring.
        agreement: see :func:`~ufc_monai.clustering.agreement.agreement`.
        method: how they came about, with the ``eps`` that was taken where none was given.
    """

    labels: NDArray[np.int64]
    n_clusters: int
    tree: NDArray[np.float64] | None
    elbow: Elbow | None
    features: NDArray[np.float64]
    scaling: Scaling
    centroids: NDArray[np.float64]
    patient_means: dict[str, NDArray[np.float64]]
    agreement: dict[str, float]
    method: ClusteringMethod


def cluster_slices(
    features: NDArray[Any],
    patients: Sequence[str],
    positions: NDArray[Any],
    method: ClusteringMethod | None = None,
) -> Clustering:
    """Centre, scale, cluster.

    Args:
        features: posterior means, (n, d).
        patients: the patient of each slice.
        positions: its position in the volume, in [0, 1].
        method: how; ``None`` is Ward's tree of the centred features, cut at the elbow.

    Raises:
        InputError: at fewer than two slices, features that are not finite, or a method that the slices do not allow.
    """
    method = method or ClusteringMethod()
    if not len(features) == len(patients) == len(positions):
        raise ValueError(f"{len(features)} features, {len(patients)} patients and {len(positions)} positions differ")
    features = np.asarray(features, dtype=np.float64)
    _check_features(features)
    means: dict[str, NDArray[np.float64]] = {}
    if method.centred:
        features, means = centre_per_patient(features, patients)
    scaling = fit_scaling(features, method)
    features = scaling(features)
    if method.clustering == "dbscan" and method.eps is None:
        method = replace(method, eps=float(f"{typical_radius(features, method.min_samples):.3g}"))
    labels, tree, elbow = CLUSTERINGS[method.clustering](features, method)
    centres, figures = centroids(features, labels), agreement(labels, patients, positions)
    return Clustering(labels, len(centres), tree, elbow, features, scaling, centres, means, figures, method)


def _check_features(features: NDArray[Any]) -> None:
    if len(features) < 2:
        raise InputError(f"clustering needs 2 slices or more, got {len(features)}. Check dataset_dir.")
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinite values: the VAE diverged. Train it with a lower learning_rate.")


_Result = tuple[NDArray[np.int64], NDArray[np.float64] | None, Elbow | None]
"""Labels, tree, elbow."""


def _agglomerative(features: NDArray[np.float64], method: ClusteringMethod) -> _Result:
    tree = merge_tree(features, method.linkage)
    cut = partial(cut_tree, tree)
    elbow = choose_n_clusters(features, cut, k_range=method.k_range, batch_size=method.batch_size)
    return cut(elbow.n_clusters if method.n_clusters is None else method.n_clusters), tree, elbow


def _kmeans(features: NDArray[np.float64], method: ClusteringMethod) -> _Result:
    if method.n_clusters is not None:
        return kmeans(features, method.n_clusters, seed=method.seed), None, None
    fit = cache(partial(kmeans, features, seed=method.seed))
    logger.info("k-means has no tree to cut: its elbow is that of %d fits at most, not of every k", FITS)
    elbow = choose_n_clusters(features, fit, k_range=method.k_range, batch_size=method.batch_size, most=FITS)
    return fit(elbow.n_clusters), None, elbow


def _dbscan(features: NDArray[np.float64], method: ClusteringMethod) -> _Result:
    assert method.eps is not None
    labels, noise = dbscan(features, eps=method.eps, min_samples=method.min_samples)
    typical = typical_radius(features, method.min_samples)
    if not labels.any():
        raise InputError(
            f"eps: DBSCAN joins all {len(labels)} slices at eps {method.eps:g}, and one cluster has no negatives. Take "
            f"a smaller one: half of the slices have {method.min_samples - 1} others within {typical:.3g} already."
        )
    logger.info(
        "DBSCAN with eps %g: %d of %d slices are noise, each a cluster of its own; half of the slices have %d others "
        "within %.3g",
        *(method.eps, noise, len(labels), method.min_samples - 1, typical),
    )
    return labels, None, None


CLUSTERINGS: dict[str, Callable[[NDArray[np.float64], ClusteringMethod], _Result]] = {
    "agglomerative": _agglomerative,
    "kmeans": _kmeans,
    "dbscan": _dbscan,
}
