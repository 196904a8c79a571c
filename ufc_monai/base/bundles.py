"""The names of the three bundles, in the order of the stages, of their methods, and of keys that were renamed."""

from __future__ import annotations

from pathlib import Path

VAE, CONTRASTIVE, UNET = BUNDLES = ("ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation")
RENAMED = {"ignore_labels": "background_labels", "contrast": "loss_preset"}
"""Keys of earlier versions, by what they are called now; a bundle may have another key of the old name."""

NO_METHODS = {"train", "cpu", "inference", "evaluate", "metadata", "probe", "isic", "multi_gpu_train"}
"""Configurations of stages 2 and 3 that are no method."""


def methods(bundles: Path) -> list[str]:
    """Names of the methods of stage 2, each a configuration that is laid over its training, sorted.

    Args:
        bundles: folder of the three bundles.
    """
    return sorted({path.stem for path in (bundles / CONTRASTIVE / "configs").glob("*.json")} - NO_METHODS)


def fine_tunings(bundles: Path) -> list[str]:
    """The same of stage 3: ``self_training`` and the like."""
    return sorted({path.stem for path in (bundles / UNET / "configs").glob("*.json")} - NO_METHODS)
