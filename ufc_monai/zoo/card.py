"""What weights are, in the words of the records that their training left: the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.files import read_json
from ufc_monai.report.markdown import markdown_cell, markdown_table

VALIDATION = "val_mean_dice"
"""Of the last validation in the record of a training; the card tells that of the weights kept."""


def model_card(bundle: Path) -> str:
    """Markdown that says what a bundle's weights were trained on and how, and what came out.

    It holds no path and no file name: of the images it tells the number alone.

    Args:
        bundle: folder of a bundle with ``models/network.json``; ``eval/train/run.json`` and ``eval/evaluate/run.json``
            are told from if they belong to these weights, the clusters of ``eval/inference`` if they are those beside
            the weights.

    Raises:
        InputError: if there are no weights.
    """
    network = read_json(bundle / "models" / "network.json", "--bundles")
    trained = _record(bundle, "train", network, "outputs")
    tested = _record(bundle, "evaluate", network, "inputs")
    lines = [*_summary(network), *_warnings(trained, _clusters(bundle, network))]
    if trained:
        lines += _training(trained, network)
    lines = list(map(markdown_cell, lines))  # all of it may be words from files
    if trained:
        lines += _tables(trained)
    if tested:
        lines += [_table(f"{_tested_on(tested)}fold {network['fold']}", _numbers(tested))]
    if not (trained or tested):
        lines += ["No record of the training comes with these weights."]
    return "\n\n".join(lines) + "\n"


def _summary(network: Mapping[str, Any]) -> list[str]:
    preprocessing = network["preprocessing"]
    size, (low, high) = preprocessing["image_size"], preprocessing["window"]
    parts = [f"slices of {size} x {size} pixels, window {low} to {high}"]
    if images := network.get("pretrained_on"):
        parts.append(f"{len(images)} images without labels")
    if labels := network.get("labels"):
        parts.append("values of masks: " + ", ".join(f"{i} {name}" for name, i in labels.items()))
    lines = [f"Weights `{network['model_sha256'][:12]}`: {'; '.join(parts)}."]
    if "demonstration" in network:
        lines.insert(0, f"**These weights are a demonstration**: {network['demonstration']}.")
    return lines


def _warnings(trained: Mapping[str, Any], clusters: Mapping[str, Any]) -> list[str]:
    """What the training and the clustering have said of themselves, good or bad."""
    results = trained.get("results", {})
    lines = [f"**Verdict of the training:** {results['verdict']}"] if "verdict" in results else []
    if stuck := results.get("not_converged"):
        lines += [f"**Not converged:** {', '.join(stuck)}. Dice is near zero on the very volumes that were trained on."]
    if "validation" in results:
        lines += [f"**Validation:** {results['validation']}."]
    if stale := trained.get("stale"):
        lines += [f"**Out of date:** {len(stale)} of the files that the training was made from."]
    if skipped := trained.get("skipped"):
        lines += [f"**Left out:** {len(skipped)} volumes whose files are bad."]
    return lines + [f"**Clusters:** {text}" for text in clusters.get("provenance", {}).get("warnings", [])]


def _training(trained: Mapping[str, Any], network: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {value}" for name, value in trained["versions"].items())
    began = f"Trained {trained['started'][:10]} in {trained['seconds']:.0f} s on {trained['machine']}; {versions}."
    chosen = network.get("chosen", {})
    kept = f" Weights kept: epoch {chosen['epoch']}" if chosen else ""
    best = f", {VALIDATION} {chosen[VALIDATION]:.4f} (on the network's grid)" if VALIDATION in chosen else ""
    start = [_start(trained["inputs"])] if network["stage"] == UNET else []
    return [f"{began}{kept}{best}{'.' * bool(kept)}", *start]


def _tables(trained: Mapping[str, Any]) -> list[str]:
    settings = {key: value for key, value in trained["settings"].items() if not key.endswith("_path")}
    if volumes := trained["environment"].get("training_volumes"):
        settings |= {"volumes trained on": volumes}
    return [_table("setting of the training", settings), _table("result of the training", _numbers(trained))]


def _start(inputs: Mapping[str, Any]) -> str:
    """What fine-tuning started from."""
    for name, what in (("model", "network"), ("pretrained", "encoder")):
        if file := inputs.get(name):
            of = next((f" of {part}" for part in reversed(Path(file["path"]).parts) if part in BUNDLES), "")
            return f"Started from the {what}{of} with the weights `{file['sha256'][:12]}`."
    return "Started from random weights."


def _tested_on(tested: Mapping[str, Any]) -> str:
    found = [tested["environment"].get(f"test_{what}") for what in ("patients", "volumes")]
    return "test, {} patients, {} volumes, ".format(*found) if all(found) else "test, "


def _clusters(bundle: Path, network: Mapping[str, Any]) -> dict[str, Any]:
    """The pseudo-labels that these weights gave; empty otherwise."""
    path = bundle / "eval" / "inference" / "pseudo_labels.json"
    labels = read_json(path, "--bundles") if path.is_file() else {}
    of = labels.get("provenance", {}).get("model_sha256")
    return labels if of == network["model_sha256"] else {}


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
    return {key: round(value, 4) for key, value in results if isinstance(value, int | float) and key != VALIDATION}


def _table(title: str, values: Mapping[str, Any]) -> str:
    return markdown_table([title, ""], [[key, str(value)] for key, value in values.items()])
