"""How slices are clustered: every choice, by its key in ``inference.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ufc_monai.base.errors import InputError

LINKAGES = {"ward": "Ward", "average": "average", "complete": "complete"}
FEATURES = {
    "raw": "",
    "standardised": "; features standardised",
    "l2": "; features of length 1",
    "pca": "; principal components ({:g})",
}
LARGEST_TREES = {"ward": 100_000, "average": 30_000, "complete": 30_000}
"""Slices that a tree is made of at most: Ward's takes minutes then, the others' distances 3.6 GB."""
CHOICES = {
    "clustering": ("agglomerative", "kmeans", "dbscan"),
    "linkage": tuple(LINKAGES),
    "feature_scaling": tuple(FEATURES),
}


@dataclass(frozen=True)
class ClusteringMethod:
    """What is done to the features, and what groups them; checked when it is made, before anything is computed.

    The features are first centred per patient, then scaled, then clustered by Euclidean distance.

    Attributes:
        clustering: ``"agglomerative"``, ``"kmeans"`` or ``"dbscan"``.
        linkage: of agglomerative clustering: ``"ward"``, ``"average"`` or ``"complete"``.
        n_clusters: how many, 2 or more; ``None`` takes the elbow. DBSCAN finds its number by ``eps``.
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

    Raises:
        InputError: at a value that is none, naming its key.
    """

    clustering: str = "agglomerative"
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

    def __post_init__(self) -> None:
        for key, known in CHOICES.items():
            _check(getattr(self, key) in known, key, f"one of {', '.join(known)}", getattr(self, key))
        k = self.n_clusters
        _check(k is None or (isinstance(k, int) and k >= 2), "n_clusters", "2 or more: one cluster has no negatives", k)
        _check(_is_range(self.k_range), "k_range", "[smallest, largest] with 2 <= smallest <= largest", self.k_range)
        share = self.pca_components
        part = (isinstance(share, int) and share >= 1) or (isinstance(share, float) and 0 < share < 1)
        _check(part, "pca_components", "a number of components, or a share of the variance below 1", share)
        most = self.max_slices_in_tree
        _check(most is None or (isinstance(most, int) and most >= 2), "max_slices_in_tree", "2 or more, or null", most)
        eps = self.eps
        radius = eps is None or (isinstance(eps, int | float) and 0 < eps < math.inf)
        _check(radius, "eps", "a number above 0, or null", eps)
        least = self.min_samples
        _check(isinstance(least, int) and least >= 1, "min_samples", "a whole number of 1 or more", least)
        seed = isinstance(self.seed, int) and 0 <= self.seed < 2**32
        _check(seed, "seed", f"a whole number of 0 to {2**32 - 1}", self.seed)
        if self.clustering == "dbscan" and k is not None:
            raise InputError(
                f"n_clusters: dbscan finds the number of clusters by eps, got n_clusters {k}. Leave it null."
            )

    @property
    def largest_tree(self) -> int:
        """Slices that a tree is made of at most."""
        return self.max_slices_in_tree or LARGEST_TREES[self.linkage]

    def describe(self) -> str:
        """The method in words, with the numbers that it depends on."""
        eps = "open" if self.eps is None else f"{self.eps:g}"
        group = {
            "agglomerative": f"agglomerative, {LINKAGES[self.linkage]} linkage, Euclidean",
            "kmeans": f"k-means, seed {self.seed}",
            "dbscan": f"DBSCAN, eps {eps}, min_samples {self.min_samples}",
        }
        return group[self.clustering] + FEATURES[self.feature_scaling].format(self.pca_components)


def _check(holds: bool, key: str, expected: str, value: object) -> None:
    if not holds:
        raise InputError(f"{key} must be {expected}; got {value!r}.")


def _is_range(value: object) -> bool:
    """Whether a value is two whole numbers, 2 or more, that do not fall."""
    numbers = value if isinstance(value, list | tuple) else ()
    return len(numbers) == 2 and all(isinstance(k, int) for k in numbers) and 2 <= numbers[0] <= numbers[1]
