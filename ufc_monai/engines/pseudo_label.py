"""The end of stage 1: features to pseudo-labels, with the files and pictures that explain them."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.clustering import Clustering, PseudoLabels, cluster_slices, warning
from ufc_monai.data import SliceDataset
from ufc_monai.errors import InputError
from ufc_monai.files import atomic_path
from ufc_monai.report import save_cluster_montage, save_elbow

__all__ = ["PseudoLabeller"]

logger = logging.getLogger(__name__)

EXAMPLES = 8
"""Slices of a cluster in the montage."""


class PseudoLabeller:
    """Cluster the features of ``features.npz`` and write ``pseudo_labels.json`` and what belongs to it.

    Beside it, in ``output_dir``: ``dendrogram.npz`` (the merge tree, to cut again), ``centroids.npz`` (cluster centres
    and patient means, for new slices), ``elbow.png`` and ``clusters.png``.

    Args:
        output_dir: folder of ``features.npz`` and of what is written.
        dataset: the slices that the features were computed from.
        n_clusters: clusters to make; ``None`` takes the elbow.
        k_range: smallest and largest number of clusters that the elbow looks at.
        batch_size: of stage 2; caps the elbow so that an anchor expects enough positives in a batch.
        centred: subtract each patient's mean feature first.
        provenance: where the features come from, kept in the file.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        dataset: SliceDataset,
        n_clusters: int | None,
        k_range: Sequence[int],
        batch_size: int,
        centred: bool,
        provenance: Mapping[str, Any],
    ) -> None:
        self.output_dir = Path(output_dir)
        self.dataset = dataset
        self.n_clusters = n_clusters
        self.k_range = (int(k_range[0]), int(k_range[1]))
        self.batch_size = batch_size
        self.centred = centred
        self.provenance = dict(provenance)

    def run(self) -> dict[str, Any]:
        """Cluster and write.

        Returns:
            ``n_clusters`` and the figures of agreement, for the record.
        """
        items = self.dataset.items
        features = self._features([item["id"] for item in items])
        patients = [item["patient"] for item in items]
        clustering = cluster_slices(
            features,
            patients,
            np.array([item["position"] for item in items]),
            n_clusters=self.n_clusters,
            k_range=self.k_range,
            batch_size=self.batch_size,
            centred=self.centred,
        )
        self._write(clustering)
        self._draw(clustering, patients)
        elbow, figures = clustering.elbow, clustering.agreement
        logger.info("%d clusters of %d slices. %s", clustering.n_clusters, len(items), elbow.reason)
        logger.info("agreement: %s", ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
        if shortcut := warning(figures):
            logger.warning(shortcut)
        return {"n_clusters": clustering.n_clusters, "searched": list(elbow.searched), **figures}

    def _features(self, ids: Sequence[str]) -> NDArray[np.float32]:
        path = self.output_dir / "features.npz"
        with np.load(path) as file:
            if file["ids"].tolist() != list(ids):
                raise InputError(f"{path} holds the features of other slices. Delete it and run inference.json again.")
            return np.asarray(file["features"])

    def _write(self, clustering: Clustering) -> None:
        clusters: dict[str, list[int]] = defaultdict(list)
        for item, label in zip(self.dataset.items, clustering.labels.tolist(), strict=True):
            clusters[item["id"].rpartition("#")[0]].append(label)
        elbow = clustering.elbow
        with atomic_path(self.output_dir / "dendrogram.npz") as temporary:
            np.savez(temporary, tree=clustering.tree, ids=np.array([item["id"] for item in self.dataset.items]))
        with atomic_path(self.output_dir / "centroids.npz") as temporary:
            means = clustering.patient_means
            np.savez(
                temporary,
                centroids=clustering.centroids,
                patients=np.array(list(means)),
                patient_means=np.array(list(means.values())),
            )
        curve = {"k": [int(k) for k in elbow.ks], "distance": [round(float(d), 6) for d in elbow.distances]}
        provenance = self.provenance | {
            "method": "agglomerative, Ward linkage, Euclidean",
            "centred_per_patient": self.centred,
            "elbow": {"chosen": elbow.n_clusters, "searched": list(elbow.searched), "reason": elbow.reason, **curve},
            "agreement": {name: round(float(value), 6) for name, value in clustering.agreement.items()},
        }
        PseudoLabels(dict(clusters), clustering.n_clusters, provenance).save(self.output_dir / "pseudo_labels.json")

    def _draw(self, clustering: Clustering, patients: Sequence[str]) -> None:
        elbow = clustering.elbow
        save_elbow(
            self.output_dir / "elbow.png", elbow.ks, elbow.distances, clustering.n_clusters, searched=elbow.searched
        )
        images, titles = [], []
        for cluster in range(clustering.n_clusters):
            members = np.flatnonzero(clustering.labels == cluster)
            shown = members[np.linspace(0, len(members) - 1, min(EXAMPLES, len(members))).round().astype(int)]
            images.append(np.stack([np.asarray(self.dataset[int(i)]["image"][0], dtype=np.float32) for i in shown]))
            n_patients = len({patients[i] for i in members.tolist()})
            titles.append(f"cluster {cluster} · {len(members)} slices · {n_patients} patients")
        save_cluster_montage(self.output_dir / "clusters.png", images, titles)
