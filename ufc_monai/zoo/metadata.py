"""``metadata.json`` in line with the weights beside it."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.bundles import UNET, VAE
from ufc_monai.engines import weights_digest
from ufc_monai.files import atomic_path, read_json
from ufc_monai.networks import build_network
from ufc_monai.transfer import load_weights, read_network

__all__ = ["bundle_metadata", "metadata_of", "placeholders", "write_metadata"]

DEMONSTRATION = "The weights are a demonstration on synthetic patients and know nothing of real ones."
"""What ``description`` and ``intended_use`` end with while it is true."""
SYNTHETIC = "synthetic patients, made by ufc_monai.data.make_phantom"
PLACEHOLDERS = {
    "authors": "ufc_monai founders",
    "copyright": "Copyright (c) ufc_monai founders",
    "data_source": "not named by who trained the weights",
    "intended_use": "Research on learning from few labels. Not for clinical use.",
}
"""What only those can say who trained the weights, as it stands until they do."""


def bundle_metadata(bundle: Path, clusters: int | None = None) -> dict[str, Any]:
    """The metadata of a bundle, brought in line with its weights, which are checked to fit their network.

    The key ``network`` describes that for ``published_network``, where the weights are out of its sight.

    Args:
        bundle: its folder.
        clusters: as in :func:`metadata_of`.

    Raises:
        InputError: if a file is missing, or the weights do not fit their network.
    """
    models = bundle / "models"
    record = read_network(models, bundle.name)
    network = build_network(record["architecture"])
    load_weights(network, models)
    described = {
        "architecture": record["architecture"],
        "weights_sha256": weights_digest(network.state_dict(), network),
        **({"demonstration": record["demonstration"]} if "demonstration" in record else {}),
    }
    metadata = read_json(bundle / "configs" / "metadata.json", "--bundles") | {"network": described}
    return metadata_of(metadata, record, clusters)


def write_metadata(bundle: Path, clusters: int | None = None) -> None:
    """Put :func:`bundle_metadata` in the place of a bundle's ``metadata.json``."""
    path = bundle / "configs" / "metadata.json"
    content = json.dumps(bundle_metadata(bundle, clusters), indent=4, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def placeholders(metadata: Mapping[str, Any]) -> list[str]:
    """The keys of which nobody has said yet what only the trainer of the weights can; none for a demonstration."""
    if "demonstration" in metadata["network"]:
        return []
    return [key for key, text in PLACEHOLDERS.items() if metadata.get(key) == text]


def metadata_of(metadata: Mapping[str, Any], network: Mapping[str, Any], clusters: int | None = None) -> dict[str, Any]:
    """The metadata of a bundle, brought in line with its ``network.json``.

    Sizes and numbers of channels of input and output are replaced; of the segmentation bundle, the structures as well.
    Texts say whether the weights are a demonstration.

    Args:
        metadata: content of ``metadata.json``.
        network: content of ``network.json``.
        clusters: how many ``centroids.npz`` holds, which a label server paints; ``None`` where there is none.
    """
    changed = _honest(copy.deepcopy(dict(metadata)), "demonstration" in network)
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


def _honest(metadata: dict[str, Any], demonstrates: bool) -> dict[str, Any]:
    """Texts that call the weights a demonstration, or do not."""
    for key in ("description", "intended_use"):
        text = metadata[key].removesuffix(DEMONSTRATION).rstrip()
        metadata[key] = f"{text} {DEMONSTRATION}" if demonstrates else text
    if demonstrates:
        metadata["data_source"] = SYNTHETIC
    elif metadata["data_source"] == SYNTHETIC:
        metadata["data_source"] = PLACEHOLDERS["data_source"]
    return metadata
