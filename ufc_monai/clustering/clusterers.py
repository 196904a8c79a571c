"""What groups slices: any object with scikit-learn's ``fit`` and ``labels_``, three with a name here; cuts of trees."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.space import assign, centroids

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

logger = logging.getLogger(__name__)

LARGEST_WARD = 100_000
"""Slices that Ward's tree is made of at most: it takes minutes then."""
LARGEST_TREE = 30_000
"""Slices that another tree is made of at most: their distances take 3.6 GB."""
STARTS = 4
"""Of k-means; the best is kept."""


class Clusterer(Protocol):
    """An estimator in the manner of scikit-learn."""

    def fit(self, features: NDArray[np.float64], /) -> Any:
        """Group features (n, d)."""


@dataclass
class Agglomerative:
    """The merge tree of all slices or of a random sample of them.

    Attributes:
        linkage: ``"ward"``, ``"average"`` or ``"complete"``.
        n_clusters: where the tree is cut; ``None`` takes the elbow.
        max_slices_in_tree: size of the sample where there are more slices; ``None`` is 100,000 for Ward, else 30,000.
        seed: of the sample.
        device: where Ward's tree is made.
        group: processes that share the work on it; all call ``fit``.
        tree_: SciPy's linkage matrix of the landmarks, after ``fit``.
        landmarks_: indices of the slices that it is made of; the others join the nearest centre.
    """

    linkage: str = "ward"
    n_clusters: int | None = None
    max_slices_in_tree: int | None = None
    seed: int = 0
    device: torch.device | str = "cpu"
    group: dist.ProcessGroup | None = None

    @property
    def largest_tree(self) -> int:
        """Slices that the tree is made of at most."""
        return self.max_slices_in_tree or (LARGEST_WARD if self.linkage == "ward" else LARGEST_TREE)

    def __str__(self) -> str:
        return f"agglomerative, {self.linkage.replace('ward', 'Ward')} linkage, Euclidean"

    def fit(self, features: NDArray[Any]) -> Agglomerative:
        """Make the exact tree of features (n, d) on Euclidean distances.

        Ward's linkage takes memory in proportion to the features, see
        :func:`~ufc_monai.clustering.reciprocal.ward_linkage`; the others n (n - 1) / 2 * 8 bytes for the distances:
        0.04 GB for 3,000 slices, 3.6 GB for 30,000.
        """
        n, most = len(features), self.largest_tree
        self.landmarks_ = np.arange(n)
        if n > most:
            self.landmarks_ = np.sort(np.random.default_rng(self.seed).choice(n, size=most, replace=False))
            logger.info(
                "the tree is made of a random sample of %d of the %d slices, seed %d (max_slices_in_tree); the others "
                "join the nearest centre",
                *(most, n, self.seed),
            )
        self.tree_ = self._tree(np.asarray(features)[self.landmarks_])
        return self

    def _tree(self, features: NDArray[Any]) -> NDArray[np.float64]:
        if self.linkage == "ward":
            import torch  # which a cut of a saved tree need not wait for

            from ufc_monai.clustering.reciprocal import ward_linkage

            return ward_linkage(torch.as_tensor(features).to(self.device), group=self.group)
        from scipy.cluster import hierarchy

        return np.asarray(hierarchy.linkage(features.astype(np.float64), method=self.linkage))


@dataclass
class KMeans:
    """k-means, the best of four k-means++ starts; where fewer slices differ than asked for, there are fewer clusters.

    Attributes:
        n_clusters: how many; ``None`` takes the elbow.
        seed: of the starts.
    """

    n_clusters: int | None = None
    seed: int = 0

    def __str__(self) -> str:
        return f"k-means, seed {self.seed}"

    def fit(self, features: NDArray[Any]) -> KMeans:
        """Group features (n, d)."""
        from sklearn import cluster, exceptions  # here and below: most runs have no use for it, and it takes its time

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            self.labels_ = cluster.KMeans(self.n_clusters, n_init=STARTS, random_state=self.seed).fit(features).labels_
        return self


@dataclass
class DBSCAN:
    """DBSCAN whose radius may be left open.

    Attributes:
        eps: radius of a neighbourhood; ``None`` takes that at which half of the slices are cores.
        min_samples: slices in it, itself included, that make a core.
    """

    eps: float | None = None
    min_samples: int = 4

    def __str__(self) -> str:
        eps = "open" if self.eps is None else f"{self.eps:g}"
        return f"DBSCAN, eps {eps}, min_samples {self.min_samples}"

    def fit(self, features: NDArray[Any]) -> DBSCAN:
        """Group features (n, d); noise is labelled -1.

        Raises:
            InputError: if there is one cluster and no noise.
        """
        from sklearn import cluster

        typical, others = typical_radius(features, self.min_samples), self.min_samples - 1
        if self.eps is None:
            self.eps = float(f"{typical:.3g}")
        self.labels_ = cluster.DBSCAN(eps=self.eps, min_samples=self.min_samples).fit(features).labels_
        if not self.labels_.any():
            raise InputError(
                f"eps: DBSCAN joins all {len(features)} slices at eps {self.eps:g}, and one cluster has no negatives. "
                f"Take a smaller one: half of the slices have {others} others within {typical:.3g} already."
            )
        logger.info(
            "DBSCAN with eps %g: %d of %d slices are noise, each a cluster of its own; half of the slices have %d "
            "others within %.3g",
            *(self.eps, (self.labels_ < 0).sum(), len(features), others, typical),
        )
        return self


def typical_radius(features: NDArray[Any], min_samples: int) -> float:
    """The radius at which half of the slices are cores of DBSCAN: where to look for ``eps``."""
    from sklearn.neighbors import NearestNeighbors

    n = min(max(min_samples, 2), len(features))
    distances, _ = NearestNeighbors(n_neighbors=n).fit(features).kneighbors(features)
    # of copies it is 0, which is no radius
    return max(float(np.median(distances[:, -1])), 1e-6)


def takes_number(clusterer: Any) -> bool:
    """Whether the number of clusters can be set: there is ``n_clusters``, and no ``distance_threshold`` decides."""
    return hasattr(clusterer, "n_clusters") and getattr(clusterer, "distance_threshold", None) is None


def words(clusterer: Clusterer) -> str:
    """A clusterer in words, with the numbers that it depends on."""
    plain = type(clusterer).__str__ is object.__str__ and type(clusterer).__repr__ is object.__repr__
    return type(clusterer).__name__ if plain else " ".join(str(clusterer).split())


def labels_of(fitted: Any) -> NDArray[np.int64]:
    """Labels (n,), numbered from the largest cluster down.

    Every noise point (scikit-learn's -1) is a cluster of its own, so that noise is never drawn together.
    """
    labels = np.array(fitted.labels_, dtype=np.int64)
    noise = labels < 0
    labels[noise] = labels.max() + 1 + np.arange(noise.sum())
    return by_size(labels)


def tree_of(fitted: Any) -> NDArray[np.float64] | None:
    """SciPy's linkage matrix of a clusterer that has merged all slices, else ``None``.

    Scikit-learn keeps heights on request alone (``compute_distances``); without, the order of the merges stands in.
    """
    if hasattr(fitted, "tree_"):
        return np.asarray(fitted.tree_)
    children = np.asarray(getattr(fitted, "children_", ()))
    n = len(children) + 1
    if n == 1 or n != len(fitted.labels_):
        return None
    size = np.ones(2 * n - 1)
    for i, pair in enumerate(children):
        size[n + i] = size[pair].sum()
    return np.column_stack([children, getattr(fitted, "distances_", np.arange(1.0, n)), size[n:]])


def cut_tree(tree: NDArray[np.float64], n_clusters: int) -> NDArray[np.int64]:
    """Labels for exactly ``n_clusters`` clusters: the state before the last ``n_clusters - 1`` merges.

    Counting merges instead of comparing heights gives the asked number even where heights tie.

    Args:
        tree: a linkage matrix of n slices.
        n_clusters: 1 to n.

    Returns:
        (n,), numbered from the largest cluster down; among equals the one with the earliest slice first.

    Raises:
        InputError: if ``n_clusters`` is out of range.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(tree) + 1
    if not 1 <= n_clusters <= n:
        raise InputError(f"n_clusters must be 1 to {n} for {n} slices, got {n_clusters}.")
    merges = n - n_clusters
    parents = np.repeat(np.arange(n, n + merges), 2)
    children = tree[:merges, :2].astype(np.int64).ravel()
    graph = coo_array((np.ones(2 * merges), (children, parents)), shape=(n + merges, n + merges))
    _, component = connected_components(graph, directed=False)
    return by_size(component[:n])


def by_size(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Number clusters anew, 0 to k - 1, from the largest down; among equals the one with the earliest slice first."""
    _, first, label, size = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -size))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[label]


def landmark_labels(
    features: NDArray[Any], landmarks: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Labels of all slices: the landmarks stay together as they are, the others join the nearest centroid.

    It is close to a tree of all slices, not the same; so say it in the log, and record seed and number of landmarks.

    Args:
        features: (n, d), of all slices.
        landmarks: indices of those that were clustered, (m,).
        labels: their clusters, 0 to k - 1, (m,).

    Returns:
        (n,), numbered from the largest cluster down.
    """
    everyone = np.full(len(features), -1)
    everyone[landmarks] = labels
    others = everyone < 0
    if others.any():
        everyone[others] = assign(features[others], centroids(features[landmarks], labels))
    return by_size(everyone)
