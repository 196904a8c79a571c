"""The network that belongs to a bundle's weights, so that ``monai.bundle.load`` gives both."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ufc_monai.errors import InputError
from ufc_monai.networks import build_network
from ufc_monai.transfer import read_network, read_weights

__all__ = ["published_network", "weights_digest"]

logger = logging.getLogger(__name__)

WAY_OUT = (
    "Give monai.bundle.load a bundle that 'python -m ufc_monai package --bundles FOLDER' has packed (its metadata.json "
    "describes the weights), start from the folder of the bundle, or pass the network as model=."
)


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
    model = Path(ckpt_dir, "model.pt")
    if model.is_file():
        network = build_network(read_network(ckpt_dir, stage)["architecture"])
        digest = weights_digest(read_weights(model), network)
    elif described := metadata.get("network"):
        network, digest = build_network(described["architecture"]), described["weights_sha256"]
        if "demonstration" in described:
            logger.warning("the weights of %s are a demonstration: %s", stage, described["demonstration"])
    else:
        raise InputError(
            f"there is no {model.absolute()}, and metadata.json does not describe the network of {stage}: train first. "
            + WAY_OUT
        )

    def check(module: nn.Module, weights: dict[str, Tensor], *_: object) -> None:
        handle.remove()
        if weights_digest(weights, module) != digest:
            raise InputError(f"these are not the weights that the bundle {stage} describes. {WAY_OUT}")

    handle = network.register_load_state_dict_pre_hook(check)  # type: ignore[no-untyped-call]
    return network


def weights_digest(weights: Mapping[str, Tensor], network: nn.Module) -> str:
    """One sha256 of those tensors that a network has, by name, type, shape and content."""
    digest = hashlib.sha256()
    for name in sorted(network.state_dict().keys() & weights.keys()):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()
