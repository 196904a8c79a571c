"""How good clusters are: what they follow, how far apart they are, and which pairs a method wrongly pushes apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.sample import spread
from ufc_monai.clustering.clusterers import Agglomerative
from ufc_monai.clustering.space import centre_per_patient

POSITION_BINS = 10
SILHOUETTE_SLICES = 2000
"""Slices from which the silhouette is computed, at most: its cost grows with their square."""
RAW_SLICES = 5000
"""Slices that are clustered by their grey values, at most."""
RAW_SIDE = 16
"""Side in pixels to which these slices are reduced."""

PARTITIONS = 4
"""Of a volume, in GLCL."""
THRESHOLD = 0.1
"""Difference of position from which PCL pushes two slices apart."""
ATTRACTING = ("pcl", "ufc")
"""Methods that draw together what they do not push apart."""


def agreement(labels: NDArray[np.int64], patients: Sequence[str], positions: NDArray[Any]) -> dict[str, float]:
    """How well clusters agree with the patient and with the position along the body.

    Args:
        labels: the cluster of each slice.
        patients: its patient.
        positions: its position in the volume, in [0, 1].

    Returns:
        ``nmi_patient`` and ``nmi_position`` (ten bins), normalised mutual information in [0, 1];
        ``same_patient_share``, the share of the pairs within clusters that come from one patient, and
        ``same_patient_chance``, that share among all pairs.
    """
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.metrics.cluster import pair_confusion_matrix

    bins = np.minimum((np.asarray(positions) * POSITION_BINS).astype(int), POSITION_BINS - 1)
    pairs = pair_confusion_matrix(patients, labels)  # rows: two patients or one; columns: two clusters or one
    return {
        "nmi_patient": float(normalized_mutual_info_score(patients, labels)),
        "nmi_position": float(normalized_mutual_info_score(bins, labels)),
        "same_patient_share": float(pairs[1, 1] / max(pairs[:, 1].sum(), 1)),
        "same_patient_chance": float(pairs[1].sum() / max(pairs.sum(), 1)),
    }


def cluster_quality(features: NDArray[Any], labels: NDArray[np.int64], *, seed: int = 0) -> dict[str, float]:
    """Sizes and separation of clusters.

    Args:
        features: what was clustered, (n, d).
        labels: the cluster of each slice, 0 to k - 1, (n,).
        seed: of the sample of at most 2,000 slices.

    Returns:
        ``largest_share``, the largest cluster's share of the slices; ``single_slices``, clusters of one slice;
        ``silhouette`` in [-1, 1], of the sample, left out where it has one cluster or nothing but single slices.
    """
    from sklearn.metrics import silhouette_score

    sizes = np.bincount(labels)
    figures = {"largest_share": float(sizes.max() / len(labels)), "single_slices": int((sizes == 1).sum())}
    some = np.random.default_rng(seed).permutation(len(labels))[:SILHOUETTE_SLICES]
    if 2 <= len(np.unique(labels[some])) < len(some):
        figures["silhouette"] = float(silhouette_score(features[some], labels[some]))
    return figures


def quality_warnings(
    follows: Mapping[str, float], sizes: Mapping[str, float], n_clusters: int, n_slices: int
) -> list[str]:
    """Plain sentences where the clusters follow patients more than anatomy, or leave little to contrast.

    Args:
        follows: of :func:`agreement`; may be empty.
        sizes: of :func:`cluster_quality`.
        n_clusters: number of clusters.
        n_slices: number of slices.
    """
    texts = []
    if follows and follows["nmi_patient"] > follows["nmi_position"]:
        texts.append(
            f"the clusters follow the patient (NMI {follows['nmi_patient']:.2f}) more than the position in the body "
            f"(NMI {follows['nmi_position']:.2f}): pretraining may learn to tell patients apart. Keep centred on, or "
            "take fewer clusters."
        )
    if sizes["single_slices"] > n_slices / 2:
        texts.append(
            f"{sizes['single_slices']} of {n_slices} slices are clusters of their own: for them the loss is "
            "that of SimCLR. Take fewer clusters, or a larger eps."
        )
    elif n_clusters > 2 and sizes["largest_share"] > 0.5:
        texts.append(
            f"one cluster holds {100 * sizes['largest_share']:.0f} % of the slices, which are never pushed "
            "apart. Take Ward linkage, more clusters, or a smaller eps."
        )
    return texts


def raw_pixels(thumbnails: NDArray[Any]) -> NDArray[np.float64]:
    """Slices (n, h, w) or (n, h, w, 3) as vectors of at most 16 x 16 mean values, (n, 256 or 768)."""
    n, height, width = thumbnails.shape[:3]
    rows, columns = (np.arange(RAW_SIDE + 1) * side // RAW_SIDE for side in (height, width))
    if min(height, width) < RAW_SIDE:
        return thumbnails.reshape(n, -1).astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(thumbnails.astype(np.float64), rows[:-1], axis=1), columns[:-1], axis=2)
    areas = np.outer(np.diff(rows), np.diff(columns)).reshape(RAW_SIDE, RAW_SIDE, *(1,) * (sums.ndim - 3))
    return np.asarray((sums / areas).reshape(n, -1))


def raw_pixel_tree(thumbnails: NDArray[Any], patients: Sequence[str], *, centred: bool) -> dict[str, NDArray[Any]]:
    """Ward's tree of the grey values of slices, of an even selection if there are too many.

    Args:
        thumbnails: small pictures of all slices, (n, h, w) or (n, h, w, 3).
        patients: the patient of each, (n,).
        centred: subtract each patient's mean first.

    Returns:
        ``tree``, SciPy's linkage matrix, and ``slices``, the indices of those clustered.
    """
    some = np.array(spread(len(thumbnails), RAW_SLICES))
    pixels = raw_pixels(thumbnails[some])
    if centred:
        pixels, _ = centre_per_patient(pixels, [patients[i] for i in some])
    return {"tree": Agglomerative().fit(pixels).tree_, "slices": some}


def count_false_negatives(
    present: NDArray[np.bool_], clusters: NDArray[np.int64] | None = None, positions: NDArray[Any] | None = None
) -> dict[str, dict[str, float | None]]:
    """Judge by organ presence what contrastive methods do to the pairs of slices of a random batch.

    Two slices are alike if they hold the same structures, one at least. SimCLR and MoCo push all slices apart, UFC
    those of other clusters, GLCL (Chaitanya et al. 2020, G^D-) those of other quarters of the volume, PCL (Zeng et al.
    2021) those whose positions differ by 0.1 or more. UFC and PCL draw the rest together; the others only the two
    views of one slice.

    Args:
        present: which structures each slice holds, (n, structures).
        clusters: the cluster of each slice, (n,); ``None`` leaves UFC out.
        positions: its position in the volume, (n,) in [0, 1]; ``None`` leaves GLCL and PCL out.

    Returns:
        For ``simclr``, ``glcl``, ``pcl`` and ``ufc``: ``pushed_apart``, the share of all pairs; ``false_negatives``,
        the share of these that are alike; ``true_positives``, the share of those drawn together that are alike.
        ``None`` where there are no such pairs.
    """
    sets, which = np.unique(np.asarray(present, dtype=bool), axis=0, return_inverse=True)
    alike = [np.flatnonzero(which == i) for i in range(len(sets)) if sets[i].any()]
    # each method's mates are the pairs that it does not push apart
    mates: dict[str, Callable[[NDArray[Any]], int]] = {"simclr": lambda chosen: 0}
    if positions is not None:
        quarters = np.minimum((np.asarray(positions) * PARTITIONS).astype(int), PARTITIONS - 1)
        mates["glcl"] = lambda chosen: _equal_pairs(quarters[chosen])
        mates["pcl"] = lambda chosen: _close_pairs(positions[chosen])
    if clusters is not None:
        mates["ufc"] = lambda chosen: _equal_pairs(clusters[chosen])
    pairs, alike_pairs = _pairs(len(which)), sum(_pairs(len(part)) for part in alike)
    rows = {}
    for method, count in mates.items():
        together, together_alike = count(np.arange(len(which))), sum(map(count, alike))
        rows[method] = {
            "pushed_apart": _share(pairs - together, pairs),
            "false_negatives": _share(alike_pairs - together_alike, pairs - together),
            "true_positives": _share(together_alike, together) if method in ATTRACTING else None,
        }
    return rows


def _pairs(n: int) -> int:
    return n * (n - 1) // 2


def _equal_pairs(groups: NDArray[Any]) -> int:
    return sum(_pairs(n) for n in np.unique(groups, return_counts=True)[1].tolist())


def _close_pairs(positions: NDArray[Any]) -> int:
    """Pairs that differ by less than the threshold: for each position, those above it within reach."""
    ordered = np.sort(positions)
    within = np.searchsorted(ordered, ordered + THRESHOLD) - np.arange(len(ordered))
    return int((within - 1).sum())


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
