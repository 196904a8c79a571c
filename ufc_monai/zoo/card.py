"""What weights are, in the words of the records that their training left: the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.files import read_json
from ufc_monai.report.markdown import markdown_cell, markdown_table

__all__ = ["model_card"]


def model_card(bundle: Path) -> str:
    """Markdown that says what a bundle's weights were trained on and how, and what came out.

    It holds no path and no file name: of the images it tells the number alone.

    Args:
        bundle: folder of a bundle with ``models/network.json``; ``eval/train/run.json`` and ``eval/evaluate/run.json``
            are told from if they belong to these weights.

    Raises:
        InputError: if there are no weights.
    """
    network = read_json(bundle / "models" / "network.json", "--bundles")
    trained = _record(bundle, "train", network, "outputs")
    tested = _record(bundle, "evaluate", network, "inputs")
    lines = [_summary(network)]
    if trained:
        versions = ", ".join(f"{name} {value}" for name, value in trained["versions"].items())
        lines += [
            f"Trained {trained['started'][:10]} in {trained['seconds']:.0f} s on {trained['machine']}; {versions}."
        ]
        settings = {key: value for key, value in trained["settings"].items() if not key.endswith("_path")}
        lines += [_table("setting of the training", settings), _table("result of the training", _numbers(trained))]
    if tested:
        lines += [_table(f"test patients of fold {network['fold']}", _numbers(tested))]
    if not (trained or tested):
        lines += ["No record of the training comes with these weights."]
    return "\n\n".join(lines) + "\n"


def _summary(network: Mapping[str, Any]) -> str:
    preprocessing = network["preprocessing"]
    size, (low, high) = preprocessing["image_size"], preprocessing["window"]
    parts = [f"slices of {size} x {size} pixels, window {low} to {high}"]
    if images := network.get("pretrained_on"):
        parts.append(f"{len(images)} images without labels")
    if labels := network.get("labels"):
        parts.append(f"structures: {', '.join(map(markdown_cell, labels))}")
    text = f"Weights `{network['model_sha256'][:12]}`: {'; '.join(parts)}."
    if "demonstration" in network:
        text = f"**These weights are a demonstration**: {markdown_cell(network['demonstration'])}.\n\n{text}"
    return text


def _record(bundle: Path, config: str, network: Mapping[str, Any], side: str) -> dict[str, Any]:
    """The record of a run that wrote or read these very weights; empty otherwise."""
    path = bundle / "eval" / config / "run.json"
    if not path.is_file():
        return {}
    record = read_json(path, "--bundles")
    model = record.get(side, {}).get("model") or {}
    return record if record.get("status") == "complete" and model.get("sha256") == network["model_sha256"] else {}


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    results = record["results"].items()
    return {key: round(value, 4) for key, value in results if isinstance(value, int | float)}


def _table(title: str, values: Mapping[str, Any]) -> str:
    return markdown_table([title, ""], [[key, str(value)] for key, value in values.items()])
