"""The names of the three bundles, in the order of the stages."""

from __future__ import annotations

__all__ = ["BUNDLES", "CONTRASTIVE", "UNET", "VAE"]

VAE, CONTRASTIVE, UNET = BUNDLES = ("ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation")
