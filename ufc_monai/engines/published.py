"""The network that belongs to a bundle's weights, so that ``monai.bundle.load`` gives both."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from ufc_monai.bundles import UNET, VAE
from ufc_monai.errors import InputError
from ufc_monai.networks import UNetEncoder, feature_network
from ufc_monai.transfer import read_network, read_weights

__all__ = ["published_network", "weights_digest"]


def published_network(ckpt_dir: str | os.PathLike[str], stage: str, metadata: Mapping[str, Any]) -> nn.Module:
    """The network whose weights a bundle ships, untrained; ``monai.bundle.load`` fills it.

    That function parses train.json from wherever the caller is, and passes over tensors that do not fit. So the
    network is described by the bundle's metadata.json, where ``package`` has put it, if there are no weights in
    ``ckpt_dir``; and the first state dict that it loads has to be the one described.

    Args:
        ckpt_dir: folder of ``model.pt`` and ``network.json``, if they are found from here.
        stage: the bundle.
        metadata: content of its metadata.json.

    Raises:
        InputError: if there is neither; and, when other weights are loaded first, from ``load_state_dict``.
    """
    if (Path(ckpt_dir) / "model.pt").is_file() or "network" not in metadata:
        record = read_network(ckpt_dir, stage)
        network = _build(stage, record["architecture"])
        digest = weights_digest(read_weights(Path(ckpt_dir) / "model.pt"), network)
    else:
        network, digest = _build(stage, metadata["network"]["architecture"]), metadata["network"]["weights_sha256"]

    def check(module: nn.Module, weights: dict[str, Tensor], *_: object) -> None:
        handle.remove()
        if weights_digest(weights, module) != digest:
            raise InputError(
                f"these are not the weights that the bundle {stage} describes. Start from the folder of the bundle, or "
                "pass monai.bundle.load the network as model=."
            )

    handle = network.register_load_state_dict_pre_hook(check)  # type: ignore[no-untyped-call]
    return network


def weights_digest(weights: Mapping[str, Tensor], network: nn.Module) -> str:
    """One sha256 of those tensors that a network has, by name, type, shape and content."""
    digest = hashlib.sha256()
    for name in sorted(network.state_dict().keys() & weights.keys()):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _build(stage: str, architecture: Mapping[str, Any]) -> nn.Module:
    if stage == VAE:
        return feature_network(architecture)
    if stage == UNET:
        network: nn.Module = BasicUNet(spatial_dims=2, **architecture)
        return network
    return UNetEncoder(**architecture)
