"""Features to clusters, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering.agreement import agreement
from ufc_monai.clustering.centring import centre_per_patient
from ufc_monai.clustering.centroids import centroids
from ufc_monai.clustering.elbow import Elbow, choose_n_clusters
from ufc_monai.clustering.ward import cut_tree, ward_tree

__all__ = ["Clustering", "cluster_slices"]


@dataclass(frozen=True)
class Clustering:
    """Clusters of slices.

    Attributes:
        labels: the cluster of each slice, (n,).
        n_clusters: their number.
        tree: SciPy's linkage matrix, to cut at another number.
        elbow: the curve over the number of clusters, and its elbow even where ``n_clusters`` was given.
        features: what was clustered, (n, d): centred or as it came.
        centroids: (k, d), in the space that was clustered.
        patient_means: what was subtracted for each patient; empty without centring.
        agreement: see :func:`~ufc_monai.clustering.agreement.agreement`.
    """

    labels: NDArray[np.int64]
    n_clusters: int
    tree: NDArray[np.float64]
    elbow: Elbow
    features: NDArray[np.float64]
    centroids: NDArray[np.float64]
    patient_means: dict[str, NDArray[np.float64]]
    agreement: dict[str, float]


def cluster_slices(
    features: NDArray[Any],
    patients: Sequence[str],
    positions: NDArray[Any],
    *,
    n_clusters: int | None = None,
    k_range: tuple[int, int] = (2, 60),
    batch_size: int = 48,
    centred: bool = True,
) -> Clustering:
    """Centre, build the tree, find the elbow, cut.

    Args:
        features: posterior means, (n, d).
        patients: the patient of each slice.
        positions: its position in the volume, in [0, 1].
        n_clusters: how many; ``None`` takes the elbow.
        k_range: smallest and largest number that the elbow looks at.
        batch_size: of stage 2; caps the elbow.
        centred: subtract each patient's mean first.

    Raises:
        InputError: at fewer than two slices, features that are not finite, an ``n_clusters`` that the slices do not
            allow, or a ``k_range`` that is none.
    """
    if not len(features) == len(patients) == len(positions):
        raise ValueError(f"{len(features)} features, {len(patients)} patients and {len(positions)} positions differ")
    features = np.asarray(features, dtype=np.float64)
    means: dict[str, NDArray[np.float64]] = {}
    if centred:
        features, means = centre_per_patient(features, patients)
    tree = ward_tree(features)
    elbow = choose_n_clusters(features, tree, k_range=k_range, batch_size=batch_size)
    k = elbow.n_clusters if n_clusters is None else n_clusters
    labels = cut_tree(tree, k)
    return Clustering(
        labels, k, tree, elbow, features, centroids(features, labels), means, agreement(labels, patients, positions)
    )
