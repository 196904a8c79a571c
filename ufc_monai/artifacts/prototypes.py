"""The prototypes of the contrastive auto-encoder: where they begin, and the clusters that they make."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ufc_monai.artifacts.features import encode
from ufc_monai.artifacts.transfer import read_weights, save_tensors
from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import by_size
from ufc_monai.clustering.groups import tree_of_groups
from ufc_monai.clustering.pipeline import ClusteringMethod, cluster_slices
from ufc_monai.clustering.space import PrototypeRule, centroids
from ufc_monai.data.slices import SliceDataset
from ufc_monai.networks.build import build_network
from ufc_monai.networks.prototypes import Projector


def find_prototypes(
    path: str | os.PathLike[str],
    autoencoder: nn.Module,
    architecture: Mapping[str, Any],
    dataset: SliceDataset,
    device: torch.device | str,
    method: ClusteringMethod,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The centres of the clusters of all slices' codes, without augmentation.

    Args:
        path: where they are kept, so that a training that is resumed finds the same; beside its checkpoints.
        autoencoder: trained.
        architecture: its description.
        dataset: the slices.
        device: where to compute.
        method: of clustering, neither centred nor scaled; as published k-means, whose elbow gives the number.
        normalise: what slices go through on their way into the network.

    Returns:
        (k, latent_size), on the CPU.

    Raises:
        InputError: as :func:`cluster_slices`.
    """
    if not Path(path).is_file():
        with torch.random.fork_rng(devices=[]):  # a resumed training does not come by
            encoder = build_network(architecture).to(device)
        encoder.load_state_dict(autoencoder.state_dict())
        codes = encode(encoder, dataset, device, normalise=normalise)
        found = cluster_slices(codes, [""] * len(codes), method)
        save_tensors(path, {"prototypes": torch.from_numpy(centroids(found.features, found.labels)).float()})
    return read_weights(Path(path))["prototypes"]


class PrototypeClusters:
    """The prototype that fits a slice's features best, as a clustering for :class:`ClusteringMethod`.

    Args:
        network: of ``contrastive_ae.json``; its weights may be loaded later.

    Attributes:
        labels_: of each slice, after ``fit``; prototypes that fit no slice best have none.
        prototypes_: those that have a cluster, which is how new slices find theirs.
        tree_: by which the slices of each prototype are joined, then the prototypes.

    Raises:
        InputError: if the network has no prototypes.
    """

    def __init__(self, network: nn.Module) -> None:
        if not hasattr(network.prototypes, "scores"):
            raise InputError(
                "prototypes.json: the network has no prototypes. Train it with contrastive_ae.json, or leave "
                "prototypes.json out."
            )
        self.network = network

    def __str__(self) -> str:
        prototypes: Any = self.network.prototypes
        return f"{len(prototypes.vectors)} prototypes, similarity {prototypes.similarity}"

    def fit(self, features: NDArray[Any]) -> PrototypeClusters:
        """Assign features (n, d), neither centred nor scaled.

        Raises:
            InputError: if one prototype has them all.
        """
        prototypes: Any = self.network.prototypes
        vectors = prototypes.vectors.cpu().numpy()
        best = PrototypeRule(vectors, prototypes.similarity, np.arange(len(vectors))).assign(features)
        self.labels_ = by_size(best)
        if not self.labels_.any():
            raise InputError(
                f"prototypes.json: one of {self} fits all {len(features)} slices best, and one cluster has no "
                "negatives. Train with --similarity squared_distance, or cluster in another way (run --clustering)."
            )
        of_cluster = best[np.unique(self.labels_, return_index=True)[1]]
        self.prototypes_ = PrototypeRule(vectors[of_cluster], prototypes.similarity, np.arange(len(of_cluster)))
        self.tree_ = tree_of_groups(np.asarray(features), self.labels_)
        return self


@torch.no_grad()
def projected(ckpt_dir: str | os.PathLike[str], codes: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Codes (n, d) behind the projector of ``contrastive_ae.json``, if its checkpoint is there."""
    path = Path(ckpt_dir) / "checkpoint.pt"
    network = torch.load(path, map_location="cpu", weights_only=True)["network"] if path.is_file() else {}
    weights = {name.removeprefix("projector."): w for name, w in network.items() if name.startswith("projector.")}
    if not weights:
        return None
    projector = Projector(codes.shape[1])
    projector.load_state_dict(weights)
    projections: NDArray[np.float32] = projector(torch.from_numpy(codes)).numpy()
    return projections
