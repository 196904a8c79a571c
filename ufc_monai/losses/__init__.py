"""Losses of the three stages."""

from __future__ import annotations

from ufc_monai.losses.contrastive import (
    PRESETS,
    ClusterContrastiveLoss,
    Preset,
    anchor_losses,
    chance_level,
    uses_clusters,
    valid_anchors,
)
from ufc_monai.losses.segmentation import PresentDiceCELoss, class_weights
from ufc_monai.losses.vae import BetaVAELoss, kl_per_dimension, reconstruction_error

__all__ = [
    "PRESETS",
    "BetaVAELoss",
    "ClusterContrastiveLoss",
    "PresentDiceCELoss",
    "Preset",
    "anchor_losses",
    "chance_level",
    "class_weights",
    "kl_per_dimension",
    "reconstruction_error",
    "uses_clusters",
    "valid_anchors",
]
