"""How slices are clustered: every choice, by its key in ``inference.json``."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import DBSCAN, Agglomerative, Clusterer, KMeans, takes_number, words

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

CLUSTERINGS = ("agglomerative", "kmeans", "dbscan")
LINKAGES = ("ward", "average", "complete")
FEATURES = {
    "raw": "",
    "standardised": "; features standardised",
    "l2": "; features of length 1",
    "pca": "; principal components ({:g})",
}


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
