"""The report of a run: one HTML file made of what its stages have left."""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from ufc_monai.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.errors import InputError
from ufc_monai.files import atomic_path, found_json
from ufc_monai.report.clusters_section import clusters_section
from ufc_monai.report.curves import curves_svg, read_metrics
from ufc_monai.report.glossary import glossary
from ufc_monai.report.page import card, details, figure, page, paragraph, picture, section, table
from ufc_monai.report.records import STAGES, read_record, standing_record
from ufc_monai.report.summary import ARMS, column_means, dice_files, judgement

__all__ = ["write_report"]

MOST_NAMED = 5
"""Bad files that a warning names."""


def write_report(run_folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a run.

    Args:
        run_folder: holds the three bundles with what their runs have left; what has not run is left out.
        path: the HTML file.

    Raises:
        InputError: if nothing has run there.
    """
    folder = Path(run_folder)
    records = {title: read_record(folder, place) for title, place in STAGES.items()}
    records = {title: record for title, record in records.items() if record}
    if not records:
        raise InputError(f"--folder: no stage has run in {folder}: there is no {folder / STAGES['stage 1, training']}.")
    parts = [
        _summary(folder, records),
        _test(folder),
        clusters_section(folder),
        _auto_encoder(folder, records),
        _pretraining(folder, records),
        _fine_tuning(folder),
        _what_ran(records),
        section("Terms", [details("what each figure means", glossary())]),
    ]
    title = f"{Path(_data_set(records)).name or 'Run'}: segmentation with cluster-contrastive pretraining"
    with atomic_path(path) as temporary:
        temporary.write_text(page(title, parts), encoding="utf-8")


def _summary(folder: Path, records: dict[str, Any]) -> str:
    began = next(iter(records.values())).get("started", "")[:16].replace("T", " ")
    lines = [paragraph(f"Data set {_data_set(records)} · begun {began} UTC", "soft")]
    split = found_json(folder / VAE / "eval" / "split.json", "--folder")
    if split.get("folds"):
        labelled = sum(len(split["folds"][0][role]) for role in ("training", "validation", "test"))
        lines.append(
            paragraph(
                f"{labelled} patients with labels, {len(split['unlabelled'])} without; {len(split['images'])} volumes."
            )
        )
    tables = dice_files(folder)
    if tables:
        means = ", ".join(f"{arm} {column_means(path)['mean']:.3f}" for arm, path in tables.items())
        budget = standing_record(folder, STAGES["stage 3, fine-tuning"]).get("settings", {}).get("labelled_volumes")
        volumes = "all labelled training volumes" if budget is None else f"{budget} labelled volumes"
        lines.append(paragraph(f"Mean Dice on the test volumes after fine-tuning on {volumes}: {means}."))
        lines.append(card(judgement(folder)))
    if verdict := records.get("stage 2, pretraining", {}).get("results", {}).get("verdict"):
        lines.append(paragraph(f"Pretraining: {verdict}"))
    lines += [card(text, "warning") for text in _warnings(folder, records)]
    return "\n".join(lines)


def _warnings(folder: Path, records: dict[str, Any]) -> list[str]:
    """What stands in the way of believing the figures."""
    found = []
    if old := [title for title in records if not standing_record(folder, STAGES[title])]:
        found.append(f"Not complete, or made from files that have changed since: {', '.join(old)}. Run again to go on.")
    if stale := [title for title, record in records.items() if record.get("stale")]:
        found.append(f"Read although out of date (--allow_stale): by {', '.join(stale)}.")
    if bad := {image: why for record in records.values() for image, why in record.get("skipped", {}).items()}:
        some = "; ".join(f"{image}: {why}" for image, why in sorted(bad.items())[:MOST_NAMED])
        more = f"; and {len(bad) - MOST_NAMED} more (see run.json)" if len(bad) > MOST_NAMED else ""
        found.append(f"Left out for bad files (--skip_bad), {len(bad)} in all: {some}{more}")
    if stuck := {n for record in records.values() for n in record.get("results", {}).get("not_converged", [])}:
        names = ", ".join(sorted(stuck))
        found.append(f"Not converged: {names}. Dice stays near zero on the very volumes trained on.")
    return found


def _test(folder: Path) -> str:
    tables = dice_files(folder)
    if not tables:
        return ""
    means = {arm: column_means(path) for arm, path in tables.items()}
    rows = []
    for name in [*[n for n in next(iter(means.values())) if n != "mean"], "mean"]:
        cells = [f"{column[name]:.3f}" if name in column else "-" for column in means.values()]
        training = [column.get(name) for column in _training_dice(folder, means)]
        rows.append([name, *cells, *("-" if value is None else f"{value:.3f}" for value in training)])
    head = ["Dice", *means, *(f"training volumes, {arm.split()[0]}" for arm in means)]
    place = folder / UNET / "eval" / "evaluate"
    return section(
        "Test",
        [
            table(head, rows),
            *(details(f"every volume, {arm}", _csv_table(path)) for arm, path in tables.items()),
            picture(
                place / "overlays.png",
                "Best, median and worst test volume",
                "Started from the pretrained encoder. The axial slice of each volume with most of the reference's "
                "foreground; the patient's right is on the left.",
            ),
        ],
    )


def _auto_encoder(folder: Path, records: dict[str, Any]) -> str:
    place = folder / VAE / "eval" / "train"
    curves = curves_svg(read_metrics(place / "metrics.jsonl"), [["explained"], ["kl"], ["active_dimensions"]], "vae")
    return section(
        "Stage 1: beta-VAE",
        [
            _verdict(records, "stage 1, training"),
            picture(
                place / "reconstructions.png",
                "Reconstructions",
                "Blurred is normal; the same picture everywhere is a collapse.",
            ),
            figure(
                curves,
                "Training",
                "The share of the slices' variance that reconstructions explain, KL in nats, and the latent "
                "dimensions with more than 0.1 nat.",
            ),
        ],
    )


def _pretraining(folder: Path, records: dict[str, Any]) -> str:
    place = folder / CONTRASTIVE / "eval" / "train"
    metrics = read_metrics(place / "metrics.jsonl")
    curves = curves_svg(metrics, [["loss", "chance"], ["effective_rank"], ["alignment", "uniformity"]], "contrastive")
    return section(
        "Stage 2: contrastive pretraining",
        [
            _verdict(records, "stage 2, pretraining"),
            figure(
                curves,
                "Training",
                "The loss beside its chance level, where all embeddings are the same; directions that they use; "
                "distance of two views and spread over the sphere (lower is better in both).",
            ),
            _probe(folder),
            picture(place / "views.png", "Pairs of views", "What the encoder is asked to embed close together."),
            picture(
                place / "embedding.png",
                "Map of the encoder's features",
                "Each point a slice; the first two principal components.",
            ),
        ],
    )


def _verdict(records: dict[str, Any], title: str) -> str:
    verdict = records.get(title, {}).get("results", {}).get("verdict")
    return card(verdict) if verdict else ""


def _probe(folder: Path) -> str:
    probe = found_json(folder / CONTRASTIVE / "eval" / "probe" / "probe.json", "--folder")
    if not probe:
        return ""
    scores = {**probe["structures"], "mean": probe["mean"]}
    rows = [
        [name, *("-" if v is None else f"{v:.3f}" for v in (s["pretrained"], s["untrained"]))]
        for name, s in scores.items()
    ]
    caption = (
        f"Is the structure in the slice? AUC of a logistic regression on frozen features, from "
        f"{probe['training_volumes']} training to {probe['validation_volumes']} validation volumes. A diagnostic: "
        "it selects nothing."
    )
    return "<h3>Linear probe</h3>\n" + table(["AUC", "pretrained", "untrained"], rows) + paragraph(caption, "soft")


def _fine_tuning(folder: Path) -> str:
    parts = []
    for arm, prefix in reversed(ARMS.items()):
        metrics = read_metrics(folder / UNET / "eval" / f"{prefix}train" / "metrics.jsonl")
        curves = curves_svg(metrics, [["loss"], ["val_mean_dice"]], f"unet_{prefix}")
        parts.append(
            figure(
                curves,
                f"From {arm.replace(' initialisation', ' weights')}",
                "Loss, and mean Dice of the validation volumes on the network's grid.",
            )
        )
    return section("Stage 3: fine-tuning", parts)


def _what_ran(records: dict[str, Any]) -> str:
    total = sum(record.get("seconds", 0) for record in records.values())
    rows = [
        [title, record.get("status", "-"), f"{record.get('seconds', 0):.0f} s"] for title, record in records.items()
    ]
    full = [details(title, f"<pre>{escape(_in_full(record))}</pre>") for title, record in records.items()]
    return section("What ran", [table(["stage", "status", "time"], [*rows, ["all", "", f"{total:.0f} s"]]), *full])


def _in_full(record: dict[str, Any]) -> str:
    command = shlex.join(["python", *map(str, record.get("command", []))])
    return f"{command}\n\n{json.dumps(record, indent=2, ensure_ascii=False)}"


def _data_set(records: dict[str, Any]) -> str:
    """The data set's folder, where a command line names it."""
    for record in records.values():
        words = [word for part in map(str, record.get("command", [])) for word in part.split("=", 1)]
        if "--dataset_dir" in words[:-1]:
            return words[words.index("--dataset_dir") + 1]
    return ""


def _csv_table(path: Path) -> str:
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    return table(head, rows)


def _training_dice(folder: Path, arms: Iterable[str]) -> list[dict[str, float]]:
    """For each start of fine-tuning, Dice on the training volumes by structure, and their mean."""
    columns = []
    for arm in arms:
        results = read_record(folder, f"{UNET}/eval/{ARMS[arm]}train").get("results", {})
        name = "training_dice_"
        column = {key.removeprefix(name): value for key, value in results.items() if key.startswith(name)}
        columns.append({**column, "mean": statistics.fmean(column.values())} if column else {})
    return columns
