"""The names of the three bundles, in the order of the stages, of their methods, and of keys that were renamed."""

from __future__ import annotations

from pathlib import Path

VAE, CONTRASTIVE, UNET = BUNDLES = ("ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation")
RENAMED = {"ignore_labels": "background_labels", "contrast": "loss_preset"}
"""Keys of earlier versions, by what they are called now; a bundle may have another key of the old name."""

NO_METHODS = {
    *("train", "cpu", "inference", "evaluate", "metadata", "probe", "isic", "multi_gpu_train", "multi_gpu_inference"),
}
"""Configurations that are no method."""
LAID_OVER = {
    "contrastive_vae": ("contrastive_ae", "contrastive_vae"),
    "shape_prior": ("local_discrimination", "shape_prior"),
}
"""Configurations of stages 1 and 2 that are laid over another, with that one."""


def methods(bundles: Path) -> list[str]:
    """Names of the methods of stage 2, each a configuration that is laid over its training, sorted.

    Args:
        bundles: folder of the three bundles.
    """
    return sorted({path.stem for path in (bundles / CONTRASTIVE / "configs").glob("*.json")} - NO_METHODS)


def laid_over(names: str) -> list[str]:
    """The configurations that some names mean, each once, in the order in which they are laid over each other.

    Args:
        names: of methods or features, with ``+`` between them.

    Example:
        >>> laid_over("shape_prior+ufc")
        ['local_discrimination', 'shape_prior', 'ufc']
    """
    return list(dict.fromkeys(each for name in names.split("+") for each in LAID_OVER.get(name, (name,))))


def features(bundles: Path) -> list[str]:
    """The same of stage 1, whose results go where those of its training go: ``contrastive_ae`` and the like."""
    return sorted(set(_of_stage_1(bundles)) - {*clusterings(bundles)})


def clusterings(bundles: Path) -> list[str]:
    """The configurations that are laid over stage 1's inference, whose results go to a folder of their own."""
    from ufc_monai.base.files import read_json  # which imports this module, by way of its errors

    return sorted(name for name, path in _of_stage_1(bundles).items() if "output_dir" in read_json(path, "--bundles"))


def _of_stage_1(bundles: Path) -> dict[str, Path]:
    paths = (bundles / VAE / "configs").glob("*.json")
    return {path.stem: path for path in paths if path.stem not in NO_METHODS}


def fine_tunings(bundles: Path) -> list[str]:
    """The same of stage 3: ``self_training`` and the like."""
    return sorted({path.stem for path in (bundles / UNET / "configs").glob("*.json")} - NO_METHODS)
