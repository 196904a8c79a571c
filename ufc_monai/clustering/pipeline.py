"""Features to clusters, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.agreement import agreement
from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.centroids import centroids
from ufc_monai.clustering.curve import fitted_curve, tree_curve
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters
from ufc_monai.clustering.landmarks import choose_landmarks, landmark_labels
from ufc_monai.clustering.method import ClusteringMethod
from ufc_monai.clustering.partitions import dbscan, kmeans, typical_radius
from ufc_monai.clustering.scaling import fit_scaling
from ufc_monai.clustering.space import Scaling
from ufc_monai.clustering.tree import cut_tree, merge_tree

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist


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
        landmarks: indices of the slices that the tree is made of, all or a sample, (m,); ``None`` without a tree.
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
    landmarks: NDArray[np.int64] | None
    elbow: Elbow | None
    features: NDArray[np.float64]
    scaling: Scaling
    centroids: NDArray[np.float64]
    patient_means: dict[str, NDArray[np.float64]]
    agreement: dict[str, float]
    method: ClusteringMethod

    def provenance(self) -> dict[str, Any]:
        """How the clusters came about, as the file of pseudo-labels keeps it: JSON values."""
        told: dict[str, Any] = {
            "method": self.method.describe(),
            "centred_per_patient": self.method.centred,
            "seed": self.method.seed,
        }
        if self.landmarks is not None:
            told["slices_in_tree"] = len(self.landmarks)
        if elbow := self.elbow:
            curve = {"k": list(elbow.ks), "distance": [round(d, 6) for d in elbow.distances]}
            searched = {"searched": list(elbow.searched), "reason": elbow.reason}
            told["elbow"] = {"chosen": elbow.n_clusters, **searched, **curve}
        return told


def cluster_slices(
    features: NDArray[Any],
    patients: Sequence[str],
    positions: NDArray[Any],
    method: ClusteringMethod | None = None,
    *,
    device: torch.device | str = "cpu",
    group: dist.ProcessGroup | None = None,
) -> Clustering:
    """Centre, scale, cluster.

    Args:
        features: posterior means, (n, d).
        patients: the patient of each slice.
        positions: its position in the volume, in [0, 1].
        method: how; ``None`` is Ward's tree of the centred features, cut at the elbow.
        device: where Ward's tree is made.
        group: processes that share the work on Ward's tree; all call this, with the same arguments.

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
    if method.clustering == "agglomerative":
        found = _agglomerative(features, method, partial(merge_tree, device=device, group=group))
    else:
        found = PARTITIONS[method.clustering](features, method)
    centres, figures = centroids(features, found.labels), agreement(found.labels, patients, positions)
    return Clustering(
        **found._asdict(),
        n_clusters=len(centres),
        features=features,
        scaling=scaling,
        centroids=centres,
        patient_means=means,
        agreement=figures,
        method=method,
    )


def _check_features(features: NDArray[Any]) -> None:
    if len(features) < 2:
        raise InputError(f"clustering needs 2 slices or more, got {len(features)}. Check dataset_dir.")
    if not np.isfinite(features).all():
        raise InputError("features hold NaN or infinite values: the VAE diverged. Train it with a lower learning_rate.")


class _Result(NamedTuple):
    """A part of :class:`Clustering`."""

    labels: NDArray[np.int64]
    elbow: Elbow | None = None
    tree: NDArray[np.float64] | None = None
    landmarks: NDArray[np.int64] | None = None


def _agglomerative(
    features: NDArray[np.float64],
    method: ClusteringMethod,
    merge: Callable[[NDArray[np.float64], str], NDArray[np.float64]],
) -> _Result:
    landmarks = choose_landmarks(len(features), method.largest_tree, seed=method.seed)
    if len(landmarks) < len(features):
        logger.info(
            "the tree is made of a random sample of %d of the %d slices, seed %d (max_slices_in_tree); the others join "
            "the nearest centre",
            *(len(landmarks), len(features), method.seed),
        )
    sample = features[landmarks]
    tree = merge(sample, method.linkage)
    curve = partial(tree_curve, sample, tree)
    elbow = choose_n_clusters(curve, len(sample), k_range=method.k_range, batch_size=method.batch_size)
    cut = cut_tree(tree, elbow.n_clusters if method.n_clusters is None else method.n_clusters)
    return _Result(landmark_labels(features, landmarks, cut), elbow, tree, landmarks)


def _kmeans(features: NDArray[np.float64], method: ClusteringMethod) -> _Result:
    if method.n_clusters is not None:
        return _Result(kmeans(features, method.n_clusters, seed=method.seed))
    fit = cache(partial(kmeans, features, seed=method.seed))
    logger.info("k-means has no tree to cut: its elbow is that of %d fits at most, not of every k", FITS)
    curve = partial(fitted_curve, features, fit)
    elbow = choose_n_clusters(curve, len(features), k_range=method.k_range, batch_size=method.batch_size, most=FITS)
    return _Result(fit(elbow.n_clusters), elbow)


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
    return _Result(labels)


PARTITIONS: dict[str, Callable[[NDArray[np.float64], ClusteringMethod], _Result]] = {
    "kmeans": _kmeans,
    "dbscan": _dbscan,
}
