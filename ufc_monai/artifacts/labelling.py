"""From features to pseudo-labels on disk, with the files and pictures that explain them.

Needs neither PyTorch nor MONAI, so that a saved tree is cut again in seconds.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.artifacts.stratification import save_patients
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, read_arrays, write_arrays
from ufc_monai.base.sample import spread
from ufc_monai.clustering.clusterers import cut_tree, landmark_labels
from ufc_monai.clustering.pipeline import Clustering, ClusteringMethod, cluster_slices
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.quality import agreement, cluster_quality, quality_warnings, raw_pixel_tree
from ufc_monai.clustering.space import centre_per_patient, centroids, load_space
from ufc_monai.report.clusters import save_cluster_map, save_elbow
from ufc_monai.report.drawing import save_rows
from ufc_monai.report.page import counted

logger = logging.getLogger(__name__)

EXAMPLES = 8
"""Slices of a cluster in the montage."""
SHOWN = 60
"""Clusters in the montage, the largest."""


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


def group_slices(features: NDArray[Any], slices: Slices, method: ClusteringMethod | None = None) -> Clustering:
    """The clusters of :func:`label_slices`, which is also how other processes take part in its search for them."""
    method = method or ClusteringMethod()
    if method.centred and _single_pictures(slices):
        logger.info("most patients have one slice: features are not centred per patient")
        method = replace(method, centred=False)
    return cluster_slices(features, slices.patients, method)


def label_slices(
    folder: str | os.PathLike[str],
    features: NDArray[Any],
    slices: Slices,
    method: ClusteringMethod | None = None,
    *,
    provenance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Cluster slices; write ``pseudo_labels.json``, the tree, the centres and the pictures.

    Args:
        folder: where ``pseudo_labels.json``, ``centroids.npz``, ``raw_pixels.npz``, ``thumbnails.npy``,
            ``clusters.png``, ``cluster_map.png`` and, if the method has them, ``dendrogram.npz`` and ``elbow.png`` go;
            ``patients.csv`` and ``patients.png`` where patients have several slices.
        features: posterior means, (n, d).
        slices: whose features they are.
        method: how; ``None`` is Ward's tree of the centred features, cut at the elbow. Nothing is centred where every
            patient has one slice. The other processes of its group call :func:`group_slices`.
        provenance: where the features come from, kept in the file.

    Returns:
        ``n_clusters``, the range searched, and the figures of agreement and quality.

    Raises:
        InputError: at fewer than two slices, features that are not finite, or a method that the slices do not allow.
    """
    folder = Path(folder)
    found = group_slices(features, slices, method)
    tree, curve, elbow = folder / "dendrogram.npz", folder / "elbow.png", found.elbow
    if found.tree is not None:
        of = {"ids": slices.ids, "patients": slices.patients, "positions": slices.positions}
        _save_arrays(tree, tree=found.tree, landmarks=found.landmarks, **of)
    if elbow is not None:
        save_elbow(curve, elbow.ks, elbow.distances, found.n_clusters, searched=elbow.searched)
    for path, made in ((tree, found.tree), (curve, elbow)):
        if made is None:  # what an earlier run has left belongs to other clusters
            path.unlink(missing_ok=True)
    raw = raw_pixel_tree(slices.thumbnails, slices.patients, centred=bool(found.patient_means))
    _save_arrays(folder / "raw_pixels.npz", **raw)
    with atomic_path(folder / "thumbnails.npy") as temporary:
        np.save(temporary, slices.thumbnails, allow_pickle=False)
    reason = elbow.reason if elbow else found.provenance["method"]
    logger.info("%d clusters of %d slices. %s", found.n_clusters, len(slices.ids), reason)
    figures = _write(folder, "", slices, found, {**(provenance or {}), **found.provenance})
    searched = {"searched": list(elbow.searched)} if elbow else {}
    return {"n_clusters": found.n_clusters, **searched, **figures}


def cut_again(folder: str | os.PathLike[str], n_clusters: int) -> Path:
    """Cut the saved tree at another number of clusters, beside the files that are there.

    Args:
        folder: what :func:`label_slices` has written.
        n_clusters: how many.

    Returns:
        The new file, ``pseudo_labels_k<n_clusters>.json``; its pictures and centres are named alike.

    Raises:
        InputError: if a file is missing, the clusters' method leaves no tree, or ``n_clusters`` is out of range.
    """
    folder = Path(folder)
    made = PseudoLabels.load(folder / "pseudo_labels.json")
    provenance = made.provenance
    if "slices_in_tree" not in provenance and not (folder / "dendrogram.npz").is_file():
        raise InputError(
            f"{folder} holds clusters by {provenance['method']}, which leaves no tree to cut. Run inference.json with "
            "other settings and another --output_dir instead."
        )
    file = read_arrays(folder / "dendrogram.npz", "tree", "landmarks", "ids", "patients", "positions")
    values = read_arrays(folder / "features.npz", "features", "ids")
    if not np.array_equal(values["ids"], file["ids"]):
        raise InputError(f"{folder}: features.npz and dendrogram.npz are of other slices. Run inference.json again.")
    most = len(file["landmarks"])
    if not 2 <= n_clusters <= most:
        raise InputError(f"--k must be 2 to {most} for the tree in {folder}, got {n_clusters}.")
    labels = cut_tree(file["tree"], n_clusters)
    slices = Slices(file["ids"].tolist(), file["patients"].tolist(), file["positions"], _thumbnails(folder))
    space = load_space(folder / "centroids.npz")
    features = values["features"]
    features, means = centre_per_patient(features, slices.patients) if space.centred else (features, {})
    features = space.scaling(features)
    found = Clustering(landmark_labels(features, file["landmarks"], labels), features, space.scaling, means)
    if space.prototypes:
        before = np.array(made.of_slices(slices.ids))
        joined = np.array([found.labels[before == c][0] for c in space.prototypes.clusters])
        if len(np.unique(joined)) == n_clusters:  # else no prototype stands for some cluster: the nearest centre does
            found = replace(found, prototypes=space.prototypes._replace(clusters=joined))
    _write(folder, f"_k{n_clusters}", slices, found, provenance)
    return folder / f"pseudo_labels_k{n_clusters}.json"


def _thumbnails(folder: Path) -> NDArray[np.uint8]:
    path = folder / "thumbnails.npy"
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError) as e:
        raise InputError(f"{path} is missing or damaged ({e}). Run ufc_feature_vae's inference.json again.") from e


def assign_slices(path: str | os.PathLike[str], features: NDArray[Any], patients: Sequence[str]) -> NDArray[np.int64]:
    """The cluster of slices that were not clustered, (n,): that of the best prototype, or else the nearest.

    Agglomerative clustering and DBSCAN have no rule for new slices. The nearest centre is not the tree's: on the very
    slices that were clustered it gives some of them another cluster.

    Args:
        path: ``centroids.npz`` of :func:`label_slices`.
        features: posterior means of the same VAE, (n, d).
        patients: the patient of each slice; if the clusters were centred, each is centred by the slices given here.
    """
    space = load_space(path)
    if space.centred:
        features, _ = centre_per_patient(features, patients)
    return space.assign(space.scaling(features))


def _write(
    folder: Path, suffix: str, slices: Slices, found: Clustering, provenance: Mapping[str, Any]
) -> dict[str, float]:
    """Write what depends on the number of clusters; the pseudo-labels last, for they say that all is there."""
    labels, k = found.labels, found.n_clusters
    figures, raw = {}, {}  # a patient of one slice has no levels, and agrees with any cluster
    if not _single_pictures(slices):
        figures = agreement(labels, slices.patients, slices.positions)
        raw = _raw_pixel_agreement(folder, slices, k)
    sizes = cluster_quality(found.features, labels, seed=provenance["seed"])
    _save_arrays(
        folder / f"centroids{suffix}.npz",
        centroids=centroids(found.features, labels),
        patients=list(found.patient_means),
        patient_means=list(found.patient_means.values()),
        model_sha256=provenance.get("model_sha256", ""),
        **vars(found.scaling),
        **(found.prototypes._asdict() if found.prototypes else {}),
    )
    _draw_examples(folder / f"clusters{suffix}.png", slices, labels, k)
    compared = {"VAE features": figures, "raw pixels": raw} if figures else {}
    rows = [(name, values["nmi_patient"], values["nmi_position"]) for name, values in compared.items()]
    save_cluster_map(folder / f"cluster_map{suffix}.png", labels, slices.patients, slices.positions, rows)
    table = folder / f"patients{suffix}.csv"
    if figures and len(set(slices.patients)) > 1:
        save_patients(table, labels, slices.patients, slices.positions, slices.thumbnails, k)
    else:  # what an earlier run has left is of other patients
        table.unlink(missing_ok=True)
        table.with_suffix(".png").unlink(missing_ok=True)
    judged = {"agreement": figures, "agreement_of_raw_pixels": raw, "quality": sizes}
    rounded = {name: {key: round(value, 6) for key, value in part.items()} for name, part in judged.items()}
    warnings = quality_warnings(figures, sizes, k, len(labels))
    by_image: dict[str, list[int]] = defaultdict(list)
    for name, label in zip(slices.ids, labels.tolist(), strict=True):
        by_image[name.rpartition("#")[0]].append(label)
    origin = {**provenance, **rounded, "warnings": warnings}
    PseudoLabels(by_image, k, origin).save(folder / f"pseudo_labels{suffix}.json")
    for row in rows:
        logger.info("clusters of %s agree (NMI) %.2f with the patient, %.2f with the position", *row)
    silhouette = f"; silhouette {sizes['silhouette']:.2f}" if "silhouette" in sizes else ""
    share, single = sizes["largest_share"], sizes["single_slices"]
    logger.info("largest cluster %.0f %% of the slices, %d of one slice%s", 100 * share, single, silhouette)
    for text in warnings:
        logger.warning(text)
    return {**figures, **sizes}


def _raw_pixel_agreement(folder: Path, slices: Slices, n_clusters: int) -> dict[str, float]:
    """Agreement of as many clusters of raw pixels."""
    file = read_arrays(folder / "raw_pixels.npz", "slices", "tree")
    some = file["slices"]
    labels = cut_tree(file["tree"], min(n_clusters, len(some)))
    return agreement(labels, np.asarray(slices.patients)[some], np.asarray(slices.positions)[some])


def _draw_examples(path: Path, slices: Slices, labels: NDArray[np.int64], n_clusters: int) -> None:
    images, titles = [], []
    for cluster in range(min(n_clusters, SHOWN)):
        members = np.flatnonzero(labels == cluster)
        shown = members[spread(len(members), EXAMPLES)]
        images.append(slices.thumbnails[shown].astype(np.float32) / 255)
        n_patients = len({slices.patients[i] for i in members.tolist()})
        titles.append(f"cluster {cluster}\n{counted(len(members), 'slice')}\n{counted(n_patients, 'patient')}")
    save_rows(path, images, titles)


def _single_pictures(slices: Slices) -> bool:
    """Whether most patients have one slice; centring would make all of these the same."""
    return bool(np.median(list(Counter(slices.patients).values())) <= 1)


def _save_arrays(path: Path, **arrays: Any) -> None:
    with atomic_path(path) as temporary:
        write_arrays(temporary, arrays)
