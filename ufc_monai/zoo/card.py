"""What weights are, in the words of the records that their training left: the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.files import found_json, read_json
from ufc_monai.report.page import rendered

VALIDATION = "val_mean_dice"
"""In the record of a training, that of the last validation; the card shows that of the weights kept."""


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
    if volumes := trained.get("environment", {}).get("training_volumes"):
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
