"""``metadata.json`` in line with the weights beside it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from ufc_monai.bundles import UNET, VAE

__all__ = ["metadata_of"]


def metadata_of(metadata: Mapping[str, Any], network: Mapping[str, Any], clusters: int | None = None) -> dict[str, Any]:
    """The metadata of a bundle, brought in line with its ``network.json``.

    Sizes and numbers of channels of input and output are replaced; of the segmentation bundle, the structures as well.

    Args:
        metadata: content of ``metadata.json``.
        network: content of ``network.json``.
        clusters: how many ``centroids.npz`` holds, which a label server paints; ``None`` where there is none.
    """
    changed = copy.deepcopy(dict(metadata))
    formats, architecture = changed["network_data_format"], network["architecture"]
    size = [network["preprocessing"]["image_size"]] * 2
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    image |= {"num_channels": architecture["in_channels"], "spatial_shape": size}
    if network["stage"] == UNET:
        names = ["background", *network["labels"]]
        pred |= {"num_channels": len(names), "spatial_shape": size}
        pred["channel_def"] = {str(index): name.lower() for index, name in enumerate(names)}
        changed["pred_classes"] = f"{len(names)} classes: {', '.join(names)}"
    else:
        pred["num_channels"] = architecture["latent_size" if network["stage"] == VAE else "features"]
        if network["stage"] != VAE:
            pred["num_channels"] = pred["num_channels"][4]
        _, _, what = changed["pred_classes"].partition(" ")
        changed["pred_classes"] = f"{pred['num_channels']} {what}"
    if clusters is not None:
        pred["channel_def"] = {"0": "background", **{str(n + 1): f"cluster {n}" for n in range(clusters)}}
    return changed
