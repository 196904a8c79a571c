"""From features to pseudo-labels on disk, with the files and pictures that explain them.

Needs neither PyTorch nor MONAI, so that a saved tree is cut again in seconds.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering import (
    Elbow,
    PseudoLabels,
    agreement,
    centre_per_patient,
    centroids,
    cluster_slices,
    cut_tree,
    ward_tree,
    warning,
)
from ufc_monai.errors import InputError
from ufc_monai.files import atomic_path
from ufc_monai.report import save_cluster_map, save_cluster_montage, save_elbow

__all__ = ["Slices", "cut_again", "label_slices"]

logger = logging.getLogger(__name__)

EXAMPLES = 8
"""Slices of a cluster in the montage."""
BASELINE_SIZE = 16
"""Side in pixels of the slices that are clustered as they are, to compare the VAE's clusters with."""
BASELINE_SLICES = 5000
"""At most so many slices, spread evenly, go into that comparison."""


@dataclass(frozen=True)
class Slices:
    """The slices that are clustered.

    Attributes:
        ids: ``"<image>#<index>"``, (n,).
        patients: whose they are, (n,).
        positions: in their volume, in [0, 1], (n,).
        thumbnails: small pictures in RAS orientation, (n, h, w) uint8, or (n, h, w, 3) in colours.
    """

    ids: Sequence[str]
    patients: Sequence[str]
    positions: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]


def label_slices(
    folder: str | os.PathLike[str],
    features: NDArray[Any],
    slices: Slices,
    *,
    n_clusters: int | None = None,
    k_range: tuple[int, int] = (2, 60),
    batch_size: int = 48,
    centred: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Cluster slices; write ``pseudo_labels.json``, the tree, the centres and the pictures.

    Args:
        folder: where ``pseudo_labels.json``, ``dendrogram.npz``, ``centroids.npz``, ``thumbnails.npy``, ``elbow.png``,
            ``clusters.png`` and ``cluster_map.png`` go.
        features: posterior means, (n, d).
        slices: whose features they are.
        n_clusters: how many; ``None`` takes the elbow.
        k_range: smallest and largest number that the elbow looks at.
        batch_size: of stage 2; caps the elbow.
        centred: subtract each patient's mean first. Left out where every patient has one slice.
        provenance: where the features come from, kept in the file.

    Returns:
        ``n_clusters``, the range searched, and the figures of agreement.

    Raises:
        InputError: at fewer than two slices, features that are not finite, an ``n_clusters`` that the slices do not
            allow, or a ``k_range`` that is none.
    """
    folder = Path(folder)
    if n_clusters is not None and n_clusters < 2:
        raise InputError(f"n_clusters must be 2 or more, got {n_clusters}: one cluster has no negatives.")
    if centred and _one_slice_each(slices):
        logger.info("every patient has one slice: features are not centred per patient")
        centred = False
    found = cluster_slices(
        features,
        slices.patients,
        slices.positions,
        n_clusters=n_clusters,
        k_range=k_range,
        batch_size=batch_size,
        centred=centred,
    )
    elbow = found.elbow
    known = {"ids": slices.ids, "patients": slices.patients, "positions": slices.positions}
    _save_arrays(folder / "dendrogram.npz", tree=found.tree, **known)
    with atomic_path(folder / "thumbnails.npy") as temporary:
        np.save(temporary, slices.thumbnails)
    save_elbow(folder / "elbow.png", elbow.ks, elbow.distances, found.n_clusters, searched=elbow.searched)
    logger.info("%d clusters of %d slices. %s", found.n_clusters, len(slices.ids), elbow.reason)
    cut = _Cut(found.features, found.patient_means, found.labels, found.agreement)
    _write(folder, "", slices, cut, {**(provenance or {}), **_method(elbow, centred)})
    return {"n_clusters": found.n_clusters, "searched": list(elbow.searched), **found.agreement}


def _method(elbow: Elbow, centred: bool) -> dict[str, Any]:
    """How the clusters came about, as the file of pseudo-labels keeps it."""
    curve = {"k": list(elbow.ks), "distance": [round(d, 6) for d in elbow.distances]}
    return {
        "method": "agglomerative, Ward linkage, Euclidean",
        "centred_per_patient": centred,
        "elbow": {"chosen": elbow.n_clusters, "searched": list(elbow.searched), "reason": elbow.reason, **curve},
    }


def cut_again(folder: str | os.PathLike[str], n_clusters: int) -> Path:
    """Cut the saved tree at another number of clusters, beside the files that are there.

    Args:
        folder: what :func:`label_slices` has written.
        n_clusters: how many.

    Returns:
        The new file, ``pseudo_labels_k<n_clusters>.json``; its pictures and centres are named alike.

    Raises:
        InputError: if a file is missing or ``n_clusters`` is out of range.
    """
    folder = Path(folder)
    for name in ("dendrogram.npz", "features.npz", "thumbnails.npy"):
        if not (folder / name).is_file():
            raise InputError(f"there is no {folder / name}: run ufc_feature_vae's inference.json first.")
    provenance = PseudoLabels.load(folder / "pseudo_labels.json").provenance
    with np.load(folder / "dendrogram.npz") as file, np.load(folder / "features.npz") as values:
        tree, features = file["tree"], values["features"]
        thumbnails = np.load(folder / "thumbnails.npy", mmap_mode="r")
        slices = Slices(file["ids"].tolist(), file["patients"].tolist(), file["positions"], thumbnails)
    means: dict[str, NDArray[np.float64]] = {}
    if provenance["centred_per_patient"]:
        features, means = centre_per_patient(features, slices.patients)
    labels = cut_tree(tree, n_clusters)
    cut = _Cut(features, means, labels, agreement(labels, slices.patients, slices.positions))
    _write(folder, f"_k{n_clusters}", slices, cut, provenance)
    return folder / f"pseudo_labels_k{n_clusters}.json"


def raw_pixels(thumbnails: NDArray[Any]) -> NDArray[np.float64]:
    """Slices as vectors of at most 16 x 16 mean values, (n, 256 or 768): what any learned feature has to beat."""
    n, height, width = thumbnails.shape[:3]
    rows, columns = (np.arange(BASELINE_SIZE + 1) * side // BASELINE_SIZE for side in (height, width))
    if min(height, width) < BASELINE_SIZE:
        return thumbnails.reshape(n, -1).astype(np.float64)
    sums = np.add.reduceat(np.add.reduceat(thumbnails.astype(np.float64), rows[:-1], axis=1), columns[:-1], axis=2)
    areas = np.outer(np.diff(rows), np.diff(columns)).reshape(BASELINE_SIZE, BASELINE_SIZE, *(1,) * (sums.ndim - 3))
    return np.asarray((sums / areas).reshape(n, -1))


class _Cut(NamedTuple):
    """One cut of a tree: what was clustered, each patient's mean, the clusters, and what they agree with."""

    features: NDArray[np.float64]
    means: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    figures: Mapping[str, float]


def _write(folder: Path, suffix: str, slices: Slices, cut: _Cut, provenance: Mapping[str, Any]) -> None:
    """Write what depends on the number of clusters; the pseudo-labels last, for they say that all is there."""
    k, figures = int(cut.labels.max()) + 1, cut.figures
    raw = _baseline(slices, k, provenance["centred_per_patient"])
    _save_arrays(
        folder / f"centroids{suffix}.npz",
        centroids=centroids(cut.features, cut.labels),
        patients=list(cut.means),
        patient_means=list(cut.means.values()),
    )
    _draw(folder, suffix, slices, cut, raw)
    by_image: dict[str, list[int]] = defaultdict(list)
    for name, label in zip(slices.ids, cut.labels.tolist(), strict=True):
        by_image[name.rpartition("#")[0]].append(label)
    origin = {
        **provenance,
        "agreement": {name: round(value, 6) for name, value in figures.items()},
        "agreement_of_raw_pixels": {name: round(value, 6) for name, value in raw.items()},
    }
    PseudoLabels(dict(by_image), k, origin).save(folder / f"pseudo_labels{suffix}.json")
    logger.info(
        "clusters agree (NMI) %.2f with the patient, %.2f with the position; those of raw pixels %.2f, %.2f",
        *(part[name] for part in (figures, raw) for name in ("nmi_patient", "nmi_position")),
    )
    if not _one_slice_each(slices) and (shortcut := warning(figures)):
        logger.warning(shortcut)


def _baseline(slices: Slices, n_clusters: int, centred: bool) -> dict[str, float]:
    """Agreement of as many clusters of raw pixels."""
    some = np.unique(np.linspace(0, len(slices.ids) - 1, BASELINE_SLICES).round().astype(int))
    patients = [slices.patients[i] for i in some]
    pixels = raw_pixels(slices.thumbnails[some])
    if centred:
        pixels, _ = centre_per_patient(pixels, patients)
    labels = cut_tree(ward_tree(pixels), min(n_clusters, len(some)))
    return agreement(labels, patients, np.asarray(slices.positions)[some])


def _draw(folder: Path, suffix: str, slices: Slices, cut: _Cut, raw: Mapping[str, float]) -> None:
    images, titles = [], []
    for cluster in range(int(cut.labels.max()) + 1):
        members = np.flatnonzero(cut.labels == cluster)
        shown = members[np.linspace(0, len(members) - 1, min(EXAMPLES, len(members))).round().astype(int)]
        images.append(slices.thumbnails[shown].astype(np.float32) / 255)
        n_patients = len({slices.patients[i] for i in members.tolist()})
        titles.append(f"cluster {cluster} · {len(members)} slices · {n_patients} patients")
    save_cluster_montage(folder / f"clusters{suffix}.png", images, titles)
    compared = (("VAE features", cut.figures), ("raw pixels", raw))
    rows = [(name, figures["nmi_patient"], figures["nmi_position"]) for name, figures in compared]
    save_cluster_map(folder / f"cluster_map{suffix}.png", cut.labels, slices.patients, slices.positions, rows)


def _one_slice_each(slices: Slices) -> bool:
    return len(set(slices.patients)) == len(slices.ids)


def _save_arrays(path: Path, **arrays: Any) -> None:
    with atomic_path(path) as temporary:
        np.savez(temporary, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})
