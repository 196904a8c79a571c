"""A network from its description in network.json: a name from a fixed list, and plain arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from monai.networks.nets import BasicUNet
from torch import nn

from ufc_monai.base.errors import InputError
from ufc_monai.networks.decoder import RegionUNet
from ufc_monai.networks.encoder import UNetEncoder
from ufc_monai.networks.unet_vae import UNetFeatureVAE, UNetVAE
from ufc_monai.networks.vae import BetaVAE, FeatureVAE

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "BasicUNet": partial(BasicUNet, 2),
    "RegionUNet": RegionUNet,
    "UNetEncoder": UNetEncoder,
    "BetaVAE": FeatureVAE,
    "UNetVAE": UNetFeatureVAE,
}
"""Every network that a description can name, as it is published: from a tensor to a tensor."""
TRAINED = {**NETWORKS, "BetaVAE": BetaVAE, "UNetVAE": UNetVAE}
"""The same as they are trained, under the same parameter names. A description runs nothing else."""


def build_network(architecture: Mapping[str, Any], training: Mapping[str, Any] | None = None) -> nn.Module:
    """The untrained network that an ``architecture`` describes.

    Args:
        architecture: ``name``, and arguments of the network. Descriptions of earlier versions have no name.
        training: further arguments, of the form of the network that is trained; ``None`` builds the published one.

    Raises:
        InputError: at another name, or arguments that do not fit.

    Example:
        >>> import torch
        >>> build_network({"name": "UNetEncoder", "features": [4, 4, 8, 8, 16, 4]})(torch.rand(1, 1, 32, 32)).shape
        torch.Size([1, 16])
    """
    described = dict(architecture)
    name = described.pop("name", None) or _earlier(described)
    if not isinstance(name, str) or name not in NETWORKS:
        raise InputError(f"architecture: name must be one of {', '.join(NETWORKS)}; got {name!r}.")
    networks = NETWORKS if training is None else TRAINED
    try:
        return networks[name](**described, **(training or {}))
    except TypeError as e:
        raise InputError(f"architecture: no {name} has these arguments: {described} ({e}).") from e


def _earlier(described: dict[str, Any]) -> str:
    """The name of what a description without one is of; stage 1 called its variant ``encoder``."""
    if "latent_size" in described or "encoder" in described:
        encoder = described.pop("encoder", "vae")
        return {"vae": "BetaVAE", "unet": "UNetVAE"}.get(encoder, str(encoder))
    return "BasicUNet" if "out_channels" in described else "UNetEncoder"
