"""Clusters as a mask: a viewer shows which slices of a volume look alike to the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path
from ufc_monai.base.ranks import is_first
from ufc_monai.clustering.space import ClusterSpace, load_space

MOST = 255
"""Values that a mask has for clusters."""
AT_ONCE = 16
"""Slices that the network sees."""


@dataclass(eq=False)
class ClusterPainter(Inferer):
    """Paint every axial slice of a volume with its cluster: that of the best prototype, or else the nearest.

    Where the clusters were centred per patient, features are centred by the slices of the volume. The nearest centre is
    not quite what a tree says of the slices that it was made of.

    Attributes:
        path: ``centroids.npz``; read when the first volume comes.
        model_sha256: of the network's weights, which the clusters must come from.
        normalise: what slices go through on their way into the network.
    """

    path: str | os.PathLike[str]
    model_sha256: str
    normalise: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Score the clusters of a volume's slices.

        Args:
            inputs: the volume, (1, C, H, W, D), preprocessed, in RAS orientation.
            network: gives features (B, d) of slices (B, C, H, W).
            *args: not used.
            **kwargs: not used.

        Returns:
            (1, k + 1, 1, 1, D): 1 for a slice's cluster, at the cluster's number + 1, and 0 for all others. Channel 0,
            the background, wins nowhere; it is what surrounds the slice when its crop is undone.

        Raises:
            InputError: if there are no clusters of this network, or too many for a mask.
        """
        space = self._space()
        slices = inputs[0].float().movedim(-1, 0)
        parts = (self.normalise(s) if self.normalise else s for s in torch.split(slices, AT_ONCE))
        features = torch.cat([network(part) for part in parts]).double().cpu().numpy()
        clusters = space.assign(space.scaling(features - features.mean(axis=0) if space.centred else features))
        return (
            F.one_hot(torch.from_numpy(clusters) + 1, len(space.centres) + 1)
            .float()
            .T[None, :, None, None]
            .to(inputs.device)
        )

    def _space(self) -> ClusterSpace:
        space = load_space(self.path)
        if space.model_sha256 != self.model_sha256:
            raise InputError(f"{self.path} holds clusters of other weights than model.pt: run inference.json again.")
        if len(space.centres) > MOST:
            raise InputError(f"{self.path} holds {len(space.centres)} clusters; a mask can show {MOST}.")
        return space


def keep_centroids(output_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy ``centroids.npz`` from where clusters were made to where a server finds them, beside the weights."""
    if not is_first():
        return
    with atomic_path(path) as temporary:
        shutil.copyfile(Path(output_dir) / "centroids.npz", temporary)
