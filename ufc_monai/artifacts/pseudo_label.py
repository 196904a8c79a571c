"""The end of stage 1: the features of the slices become pseudo-labels."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.nn import functional as F
from tqdm import tqdm

from ufc_monai.artifacts.labelling import Slices, group_slices, label_slices
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_arrays
from ufc_monai.base.ranks import first_rank, is_first, world_size
from ufc_monai.base.spool import Spool
from ufc_monai.clustering.pipeline import ClusteringMethod
from ufc_monai.data.slices import SliceDataset

THUMBNAIL = 64
"""Largest side of the small pictures that are kept of every slice."""


@dataclass(eq=False)
class PseudoLabeller:
    """Cluster the features of ``features.npz``, see :func:`ufc_monai.artifacts.labelling.label_slices`.

    Attributes:
        output_dir: folder of ``features.npz`` and of what is written.
        dataset: the slices that the features were computed from.
        method: how they are clustered.
        provenance: where the features come from, kept in the file.
        device: where Ward's tree is made, a GPU or else the CPU.
    """

    output_dir: str | os.PathLike[str]
    dataset: SliceDataset
    method: ClusteringMethod
    provenance: Mapping[str, Any]
    device: torch.device | str = "cpu"

    def run(self) -> dict[str, Any]:
        """Cluster and write; all ranks share the work on Ward's tree, and the first does the rest.

        Returns:
            ``n_clusters`` and the figures of agreement and quality, for the record; nothing but on the first rank.

        Raises:
            InputError: if ``features.npz`` holds other slices than the data set.
        """
        shared = world_size() > 1 and self.method.clustering == "agglomerative" and self.method.linkage == "ward"
        if not (shared or is_first()):
            return {}
        items = self.dataset.items
        slices = Slices(
            ids=items.column("id").tolist(),
            patients=items.column("patient").tolist(),
            positions=items.column("position"),
            thumbnails=thumbnails_of(self.dataset, self.output_dir)
            if is_first()
            else np.empty((0, 0, 0), dtype=np.uint8),
        )
        with first_rank() if shared else contextlib.nullcontext():  # which has written the file
            features = self._features(slices.ids)
        # other devices lack the float64 that decides
        device = self.device if torch.device(self.device).type == "cuda" else "cpu"
        method = replace(self.method, device=device, group=dist.group.WORLD if shared else None)
        if is_first():
            return label_slices(self.output_dir, features, slices, method, provenance=self.provenance)
        group_slices(features, slices, method)
        return {}

    def _features(self, ids: Sequence[str]) -> NDArray[np.float32]:
        path = Path(self.output_dir) / "features.npz"
        file = read_arrays(path, "features", "ids")
        if file["ids"].tolist() != list(ids):
            raise InputError(f"{path} holds the features of other slices. Delete it and run inference.json again.")
        return file["features"]


def thumbnails_of(dataset: SliceDataset, folder: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
    """Small pictures of all slices, (n, h, w), or (n, h, w, 3) in colours.

    Args:
        dataset: the slices.
        folder: on whose disk they lie until nothing holds them, 4 kB each; ``None`` takes that for temporary files.
    """
    pictures = Spool(folder or tempfile.gettempdir())
    for entry in tqdm(dataset.entries, "thumbnails", unit="volume", leave=False, disable=None):
        images = torch.from_numpy(entry.array("image")).float()
        size = min(THUMBNAIL, *images.shape[2:])
        small = (F.adaptive_avg_pool2d(images, size).clamp(0, 1) * 255).round().to(torch.uint8)
        pictures.add((small.movedim(1, -1) if small.shape[1] == 3 else small[:, 0]).numpy())
    return pictures.rows()
