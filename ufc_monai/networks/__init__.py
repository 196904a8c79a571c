"""Networks: the beta-VAE of stage 1, the UNet encoder of stages 2 and 3, and what contrastive learning puts on it."""

from __future__ import annotations

from ufc_monai.networks.build import build_network
from ufc_monai.networks.decoder import LocalNetwork, UNetDecoder
from ufc_monai.networks.encoder import ContrastiveNetwork, ProjectionHead, UNetEncoder
from ufc_monai.networks.momentum import BootstrapNetwork, MomentumNetwork
from ufc_monai.networks.unet_vae import UNetFeatureVAE, UNetVAE
from ufc_monai.networks.vae import BetaVAE, FeatureVAE

__all__ = [
    "BetaVAE",
    "BootstrapNetwork",
    "ContrastiveNetwork",
    "FeatureVAE",
    "LocalNetwork",
    "MomentumNetwork",
    "ProjectionHead",
    "UNetDecoder",
    "UNetEncoder",
    "UNetFeatureVAE",
    "UNetVAE",
    "build_network",
]
