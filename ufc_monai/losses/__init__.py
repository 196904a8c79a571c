"""Losses of the three stages."""

from __future__ import annotations

from ufc_monai.losses.combined import CombinedLoss
from ufc_monai.losses.contrastive import (
    PRESETS,
    ClusterContrastiveLoss,
    ContrastiveLoss,
    Preset,
    anchor_losses,
    uses_groups,
)
from ufc_monai.losses.gathered import GatheredLoss
from ufc_monai.losses.local import LocalContrastiveLoss
from ufc_monai.losses.momentum import BootstrapLoss, QueueContrastiveLoss, queue_size
from ufc_monai.losses.protocol import DROPPED, StructuralLoss, figures_of
from ufc_monai.losses.segmentation import PresentDiceCELoss, class_weights
from ufc_monai.losses.vae import BetaVAELoss, kl_per_dimension, reconstruction_error

__all__ = [
    "DROPPED",
    "PRESETS",
    "BetaVAELoss",
    "BootstrapLoss",
    "ClusterContrastiveLoss",
    "CombinedLoss",
    "ContrastiveLoss",
    "GatheredLoss",
    "LocalContrastiveLoss",
    "PresentDiceCELoss",
    "Preset",
    "QueueContrastiveLoss",
    "StructuralLoss",
    "anchor_losses",
    "class_weights",
    "figures_of",
    "kl_per_dimension",
    "queue_size",
    "reconstruction_error",
    "uses_groups",
]
