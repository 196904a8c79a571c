"""Features to clusters: every choice, by its key in ``inference.json``, and the steps."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import (
    DBSCAN,
    Agglomerative,
    Clusterer,
    KMeans,
    cut_tree,
    labels_of,
    landmark_labels,
    takes_number,
    tree_of,
    words,
)
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters, fitted_curve, tree_curve
from ufc_monai.clustering.space import PrototypeRule, Scaling, centre_per_patient, fit_scaling

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

logger = logging.getLogger(__name__)

CLUSTERINGS = ("agglomerative", "kmeans", "dbscan")
LINKAGES = ("ward", "average", "complete")
FEATURES = {
    "raw": "",
    "standardised": "; features standardised",
    "l2": "; features of length 1",
    "pca": "; principal components ({:g})",
}

FITS = 16
"""Numbers of clusters at most that a clustering without a tree is fitted with to find its elbow."""


@dataclass(frozen=True)
class ClusteringMethod:
    """What is done to the features, and what groups them; checked when it is made, before anything is computed.

    The features are first centred per patient, then scaled, then clustered by Euclidean distance.

    Attributes:
        clustering: ``"agglomerative"``, ``"kmeans"`` or ``"dbscan"``, set up by the keys below; or a
            :class:`~ufc_monai.clustering.clusterers.Clusterer`, such as an estimator of scikit-learn.
        linkage: of agglomerative clustering: ``"ward"``, ``"average"`` or ``"complete"``.
        n_clusters: how many, 2 or more; ``None`` takes the elbow, or what an object of its own was given. Refused where
            a clustering finds the number itself, as DBSCAN does by ``eps``.
        k_range: smallest and largest number that the elbow looks at.
        batch_size: of stage 2; caps the elbow so that an anchor expects enough positives in a batch.
        centred: subtract each patient's mean feature first.
        feature_scaling: ``"raw"`` leaves the features as they are, ``"standardised"`` gives every dimension variance 1,
            ``"l2"`` every slice length 1, ``"pca"`` takes the first principal components, not whitened.
        pca_components: a number of components, or a share of the variance below 1.
        max_slices_in_tree: of agglomerative clustering: of more slices, a random sample makes the tree, and the others
            join the nearest centre; ``None`` is 100,000 for Ward, else 30,000.
        eps: DBSCAN's radius, > 0; ``None`` takes that at which half of the slices are cores.
        min_samples: slices within ``eps``, itself included, that make a slice the core of a DBSCAN cluster.
        seed: of k-means and of the samples for tree and silhouette.
        device: where Ward's tree is made; has no say in it.
        group: processes that share the work on Ward's tree, and all cluster the same; ``None`` works alone.

    Raises:
        InputError: at an invalid value, naming its key.
    """

    clustering: str | Clusterer = "agglomerative"
    linkage: str = "ward"
    n_clusters: int | None = None
    k_range: Sequence[int] = (2, 60)
    batch_size: int = 48
    centred: bool = True
    feature_scaling: str = "raw"
    pca_components: float = 0.9
    max_slices_in_tree: int | None = None
    eps: float | None = None
    min_samples: int = 4
    seed: int = 0
    device: torch.device | str = "cpu"
    group: dist.ProcessGroup | None = None

    def __post_init__(self) -> None:
        kind, share, eps, ks = self.clustering, self.pca_components, self.eps, self.k_range
        pair = isinstance(ks, list | tuple) and len(ks) == 2 and _whole(ks[0], 2) and _whole(ks[1], 2)
        clusterer = not isinstance(kind, str | type) and callable(getattr(kind, "fit", None))
        rules = {
            "clustering": (
                kind in CLUSTERINGS or clusterer,
                f"one of {', '.join(CLUSTERINGS)}, or an object with a fit",
            ),
            "linkage": (self.linkage in LINKAGES, f"one of {', '.join(LINKAGES)}"),
            "feature_scaling": (self.feature_scaling in FEATURES, f"one of {', '.join(FEATURES)}"),
            "n_clusters": (_whole(self.n_clusters, 2, None), "2 or more: one cluster has no negatives"),
            "k_range": (pair and ks[0] <= ks[1], "[smallest, largest] with 2 <= smallest <= largest"),
            "pca_components": (
                _whole(share, 1) or (isinstance(share, float) and 0 < share < 1),
                "a number of components, or a share of the variance below 1",
            ),
            "max_slices_in_tree": (_whole(self.max_slices_in_tree, 2, None), "2 or more, or null"),
            "eps": (eps is None or (isinstance(eps, int | float) and 0 < eps < math.inf), "a number above 0, or null"),
            "min_samples": (_whole(self.min_samples, 1), "a whole number of 1 or more"),
            "seed": (_whole(self.seed, 0) and self.seed < 2**32, f"a whole number of 0 to {2**32 - 1}"),
        }
        for key, (holds, expected) in rules.items():
            if not holds:
                raise InputError(f"{key} must be {expected}; got {getattr(self, key)!r}.")
        if self.n_clusters is not None and not takes_number(self.clusterer()):
            name, by = (kind, "eps") if isinstance(kind, str) else (type(kind).__name__, "itself")
            told = f"got n_clusters {self.n_clusters}. Leave it null."
            raise InputError(f"n_clusters: {name} finds the number of clusters by {by}, {told}")

    def clusterer(self) -> Any:
        """What groups the features, not fitted, with ``n_clusters`` and, where it left that open, the seed."""
        if self.clustering == "agglomerative":
            most = self.max_slices_in_tree
            return Agglomerative(self.linkage, self.n_clusters, most, self.seed, self.device, self.group)
        if self.clustering == "kmeans":
            return KMeans(self.n_clusters, self.seed)
        if self.clustering == "dbscan":
            return DBSCAN(self.eps, self.min_samples)
        made: Any = copy.copy(self.clustering)
        if self.n_clusters is not None and takes_number(made):
            made.n_clusters = self.n_clusters
        if getattr(made, "random_state", self) is None:
            made.random_state = self.seed
        return made

    def describe(self, clusterer: Any = None) -> str:
        """The method in words, with the numbers that it depends on, those of a fitted clusterer if one is given."""
        return words(clusterer or self.clusterer()) + FEATURES[self.feature_scaling].format(self.pca_components)


def _whole(value: object, least: int, *others: object) -> bool:
    """Whether a value is a whole number of ``least`` or more, or one of the others."""
    return (isinstance(value, int) and value >= least) or any(value is other for other in others)


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
        prototypes: whose clusters they are, if they are those of prototypes.
        provenance: how the clusters came about, as the file of pseudo-labels keeps it: JSON values.
    """

    labels: NDArray[np.int64]
    features: NDArray[np.float64]
    scaling: Scaling
    patient_means: dict[str, NDArray[np.float64]]
    tree: NDArray[np.float64] | None = None
    landmarks: NDArray[np.int64] | None = None
    elbow: Elbow | None = None
    prototypes: PrototypeRule | None = None
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
    rule = getattr(fitted, "prototypes_", None)
    return Clustering(
        features=features, scaling=scaling, patient_means=means, prototypes=rule, provenance=told, **found
    )


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
