"""What is said of weights: ``metadata.json`` in line with them, and the model card, from their training's records."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.artifacts.served import weights_digest
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.bundles import BUNDLES, UNET, VAE
from ufc_monai.base.files import atomic_path, found_json, inert, read_arrays, read_json
from ufc_monai.networks.build import build_network
from ufc_monai.report.page import rendered

DEMONSTRATION = "The weights are a demonstration on synthetic patients and know nothing of real ones."
"""What ``description`` and ``intended_use`` end with while it is true."""
SYNTHETIC = "synthetic patients, made by ufc_monai.phantom.make_phantom"
PLACEHOLDERS = {
    "authors": "ufc_monai founders",
    "copyright": "Copyright (c) ufc_monai founders",
    "data_source": "not named by who trained the weights",
    "intended_use": "Research on learning from few labels. Not for clinical use.",
}
"""Placeholders for what only those who trained the weights can say."""

VALIDATION = "val_mean_dice"
"""In the record of a training, that of the last validation; the card shows that of the weights kept."""


def bundle_metadata(bundle: Path, *, served: bool = False) -> dict[str, Any]:
    """The metadata of a bundle, brought in line with its weights, which are checked to fit their network.

    The key ``network`` describes that for ``published_network``, where the weights are out of its sight.

    Args:
        bundle: its folder.
        served: as in :func:`metadata_of`.

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
    }
    described |= {key: record[key] for key in ("demonstration",) if key in record}
    metadata = read_json(bundle / "configs" / "metadata.json", "--bundles") | {"network": described}
    centroids = models / "centroids.npz"
    clusters = len(read_arrays(centroids, "centroids")["centroids"]) if centroids.is_file() else None
    return metadata_of(metadata, record, clusters, served=served)


def write_metadata(bundle: Path, *, served: bool = False) -> None:
    """Put :func:`bundle_metadata` in the place of a bundle's ``metadata.json``."""
    content = metadata_text(bundle_metadata(bundle, served=served))
    with atomic_path(bundle / "configs" / "metadata.json") as temporary:
        temporary.write_text(content, encoding="utf-8")


def metadata_text(metadata: Mapping[str, Any]) -> str:
    """The text of a ``metadata.json``.

    Raises:
        InputError: if MONAI, which parses it as a configuration, would run or change something in it.
    """
    return json.dumps(inert(metadata, "metadata.json"), indent=4, ensure_ascii=False) + "\n"


def placeholders(metadata: Mapping[str, Any]) -> list[str]:
    """The keys that still hold one of ``PLACEHOLDERS``; none for a demonstration."""
    ours = "demonstration" not in metadata["network"]
    return [key for key, text in PLACEHOLDERS.items() if ours and metadata.get(key) == text]


def metadata_of(
    metadata: Mapping[str, Any], network: Mapping[str, Any], clusters: int | None = None, *, served: bool = False
) -> dict[str, Any]:
    """The metadata of a bundle, brought in line with its ``network.json``.

    Sizes and numbers of channels of input and output are replaced; of the segmentation bundle, the structures as well.
    Texts say whether the weights are a demonstration.

    Args:
        metadata: content of ``metadata.json``.
        network: content of ``network.json``.
        clusters: how many ``centroids.npz`` holds, which a label server paints; ``None`` without one.
        served: number the classes by the data set's ids, which the masks of a label server then hold, instead of by
            the channels of the network.
    """
    changed = _honest(copy.deepcopy(dict(metadata)), "demonstration" in network)
    formats, architecture = changed["network_data_format"], network["architecture"]
    size = [network["preprocessing"]["image_size"]] * 2
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    image |= {"num_channels": architecture["in_channels"], "spatial_shape": size}
    if network["stage"] == UNET:
        names = ["background", *network["labels"]]
        pred |= {"num_channels": len(names), "spatial_shape": size}
        numbers = [0, *network["labels"].values()] if served else range(len(names))
        pred["channel_def"] = {str(n): name.lower() for n, name in zip(numbers, names, strict=True)}
        changed["pred_classes"] = f"{len(names)} classes: {', '.join(names)}"
    else:
        pred["num_channels"] = architecture["latent_size"] if network["stage"] == VAE else architecture["features"][4]
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


def model_card(bundle: Path) -> str:
    """Markdown that says what a bundle's weights were trained on and how, and what came out.

    It holds no path and no file name: only the number of images.

    Args:
        bundle: folder of a bundle with ``models/network.json``; ``eval/train/run.json`` and ``eval/evaluate/run.json``
            are used if they belong to these weights, the clusters of ``eval/inference`` if these weights
            made them.

    Raises:
        InputError: if there are no weights.
    """
    network = read_json(bundle / "models" / "network.json", "--bundles")
    trained = _record(bundle, "train", network, "outputs")
    tested = _record(bundle, "evaluate", network, "inputs")
    settings = {key: value for key, value in trained.get("settings", {}).items() if not key.endswith("_path")}
    if volumes := settings.pop("training_volumes", None):
        settings["volumes trained on"] = volumes
    start = _start(trained["inputs"]) if trained and network["stage"] == UNET else None
    clusters = found_json(bundle / "eval" / "inference" / "pseudo_labels.json", "--bundles").get("provenance", {})
    warnings = clusters.get("warnings", []) if clusters.get("model_sha256") == network["model_sha256"] else []
    data = {"network": network, "trained": trained, "tested": tested, "settings": settings}
    return rendered("card.md", **data, start=start, warnings=warnings, numbers=_numbers)


def _start(inputs: Mapping[str, Any]) -> str:
    """What fine-tuning started from."""
    for name, what in (("model", "network"), ("pretrained", "encoder")):
        if file := inputs.get(name):
            of = next((f" of {part}" for part in reversed(Path(file["path"]).parts) if part in BUNDLES), "")
            return f"Started from the {what}{of} with the weights `{file['sha256'][:12]}`."
    return "Started from random weights."


def _record(bundle: Path, config: str, network: Mapping[str, Any], side: str) -> dict[str, Any]:
    """The record of a run that wrote or read these very weights; empty otherwise."""
    record = found_json(bundle / "eval" / config / "run.json", "--bundles")
    model = record.get(side, {}).get("model") or {}
    return record if record.get("status") == "complete" and model.get("sha256") == network["model_sha256"] else {}


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    results = record["results"].items()
    return {key: round(value, 4) for key, value in results if isinstance(value, int | float) and key != VALIDATION}
