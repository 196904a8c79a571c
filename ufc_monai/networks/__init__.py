"""Networks: the beta-VAE of stage 1, the UNet encoder of stages 2 and 3, the projection head."""

from __future__ import annotations

from ufc_monai.networks.encoder import ContrastiveNetwork, ProjectionHead, UNetEncoder
from ufc_monai.networks.unet_vae import UNetFeatureVAE, UNetVAE, feature_network
from ufc_monai.networks.vae import BetaVAE, FeatureVAE

__all__ = [
    "BetaVAE",
    "ContrastiveNetwork",
    "FeatureVAE",
    "ProjectionHead",
    "UNetEncoder",
    "UNetFeatureVAE",
    "UNetVAE",
    "feature_network",
]
