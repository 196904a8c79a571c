"""The report of a run: one HTML file made of what its stages have left."""

from __future__ import annotations

import csv
import json
import os
from html import escape
from pathlib import Path
from typing import Any

from ufc_monai.errors import InputError
from ufc_monai.files import atomic_path, read_json
from ufc_monai.report.curves import curves_svg, read_metrics
from ufc_monai.report.page import details, figure, page, paragraph, picture, section, table
from ufc_monai.report.summary import ARMS, column_means, dice_files, judgement

__all__ = ["write_report"]

VAE, CONTRASTIVE, UNET = "ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation"
STAGES = {
    "stage 1, training": f"{VAE}/eval/train",
    "stage 1, features and clusters": f"{VAE}/eval/inference",
    "stage 2, pretraining": f"{CONTRASTIVE}/eval/train",
    "stage 2, linear probe": f"{CONTRASTIVE}/eval/probe",
    "stage 3, fine-tuning": f"{UNET}/eval/train",
    "stage 3, test": f"{UNET}/eval/evaluate",
    "stage 3, masks of unlabelled volumes": f"{UNET}/eval/inference",
    "stage 3, fine-tuning from random weights": f"{UNET}/eval/random_train",
    "stage 3, test from random weights": f"{UNET}/eval/random_evaluate",
}


def write_report(run_folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a run.

    Args:
        run_folder: holds the three bundles with what their runs have left; what has not run is left out.
        path: the HTML file.

    Raises:
        InputError: if nothing has run there.
    """
    folder = Path(run_folder)
    records = {title: _json(folder / place / "run.json") for title, place in STAGES.items()}
    records = {title: record for title, record in records.items() if record}
    if not records:
        raise InputError(f"--folder: no stage has run in {folder}: there is no {folder / STAGES['stage 1, training']}.")
    parts = [
        _summary(folder, records),
        _test(folder),
        _clusters(folder),
        _auto_encoder(folder),
        _pretraining(folder, records),
        _fine_tuning(folder),
        _what_ran(records),
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(page("Segmentation with cluster-contrastive pretraining", parts), encoding="utf-8")


def _summary(folder: Path, records: dict[str, Any]) -> str:
    first = next(iter(records.values()))
    words = first.get("command", [])
    data = words[words.index("--dataset_dir") + 1] if "--dataset_dir" in words else ""
    lines = [paragraph(f"Data set {data} · begun {first.get('started', '')[:16].replace('T', ' ')} UTC", "soft")]
    split = _json(folder / VAE / "eval" / "split.json")
    if split:
        labelled = sum(len(split["folds"][0][role]) for role in ("training", "validation", "test"))
        lines.append(
            paragraph(
                f"{labelled} patients with labels, {len(split['unlabelled'])} without; {len(split['images'])} volumes."
            )
        )
    budget = records.get("stage 3, fine-tuning", {}).get("settings", {}).get("labelled_volumes")
    tables = dice_files(folder)
    if tables:
        means = ", ".join(f"{arm} {column_means(path)['mean']:.3f}" for arm, path in tables.items())
        volumes = "all labelled training volumes" if budget is None else f"{budget} labelled volumes"
        lines.append(paragraph(f"Mean Dice on the test volumes after fine-tuning on {volumes}: {means}."))
        lines.append(f'<div class="card">{paragraph(judgement(folder))}</div>')
    stuck = {n for r in records.values() for n in r.get("results", {}).get("not_converged", [])}
    if stuck:
        text = f"Not converged: {', '.join(sorted(stuck))}. Dice stays near zero on the very volumes trained on."
        lines.append(f'<div class="card warning">{paragraph(text)}</div>')
    return "\n".join(lines)


def _test(folder: Path) -> str:
    tables = dice_files(folder)
    if not tables:
        return ""
    means = {arm: column_means(path) for arm, path in tables.items()}
    rows = []
    for name in [*[n for n in next(iter(means.values())) if n != "mean"], "mean"]:
        cells = [f"{column[name]:.3f}" if name in column else "-" for column in means.values()]
        training = [_results(folder, f"{ARMS[arm]}train").get(f"training_dice_{name}") for arm in means]
        rows.append([name, *cells, *("-" if value is None else f"{value:.3f}" for value in training)])
    head = ["Dice", *means, *(f"on training volumes, {arm.split()[0]}" for arm in means)]
    place = folder / UNET / "eval" / "evaluate"
    return section(
        "Test",
        [
            table(head, rows),
            *(details(f"every volume, {arm}", _csv_table(path)) for arm, path in tables.items()),
            picture(
                place / "overlays.png",
                "Best, median and worst test volume",
                "The axial slice of each with most of the reference's foreground; the patient's right is on the left.",
            ),
        ],
    )


def _clusters(folder: Path) -> str:
    place = folder / VAE / "eval" / "inference"
    labels = _json(place / "pseudo_labels.json")
    if not labels:
        return ""
    origin = labels["provenance"]
    n = sum(len(clusters) for clusters in labels["clusters"].values())
    rows = [
        [name, f"{values['nmi_patient']:.2f}", f"{values['nmi_position']:.2f}"]
        for name, key in (
            ("clusters of the VAE's features", "agreement"),
            ("clusters of raw pixels", "agreement_of_raw_pixels"),
        )
        if (values := origin.get(key))
    ]
    return section(
        "Clusters",
        [
            paragraph(f"{labels['n_clusters']} clusters of {n} slices. {origin['elbow']['reason']}"),
            picture(
                place / "clusters.png",
                "Examples of each cluster",
                "A good cluster shows one level of the body, from many patients; a bad one shows one patient.",
            ),
            table(["agreement (NMI)", "with patient", "with position"], rows),
            paragraph("0: the cluster tells nothing of it, 1: everything. Position should be above patient.", "soft"),
            picture(
                place / "cluster_map.png",
                "Clusters across patients and positions",
                "Sizes of the clusters; which patients and levels they are made of.",
            ),
            picture(
                place / "elbow.png",
                "Number of clusters",
                "The bend depends on the range searched; any number near it serves.",
            ),
        ],
    )


def _auto_encoder(folder: Path) -> str:
    place = folder / VAE / "eval" / "train"
    curves = curves_svg(read_metrics(place / "metrics.jsonl"), [["mse"], ["kl"], ["active_dimensions"]], "vae")
    return section(
        "Stage 1: beta-VAE",
        [
            picture(
                place / "reconstructions.png",
                "Reconstructions",
                "Blurred is normal; the same picture everywhere is a collapse.",
            ),
            figure(
                curves,
                "Training",
                "Mean squared error a pixel, KL in nats, and the latent dimensions with more than 0.1 nat.",
            ),
        ],
    )


def _pretraining(folder: Path, records: dict[str, Any]) -> str:
    place = folder / CONTRASTIVE / "eval" / "train"
    metrics = read_metrics(place / "metrics.jsonl")
    curves = curves_svg(metrics, [["loss", "chance"], ["effective_rank"], ["alignment", "uniformity"]], "contrastive")
    verdict = records.get("stage 2, pretraining", {}).get("results", {}).get("verdict")
    return section(
        "Stage 2: contrastive pretraining",
        [
            f'<div class="card">{paragraph(verdict)}</div>' if verdict else "",
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


def _probe(folder: Path) -> str:
    probe = _json(folder / CONTRASTIVE / "eval" / "probe" / "probe.json")
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
    rows = [[title, record["status"], f"{record.get('seconds', 0):.0f} s"] for title, record in records.items()]
    full = [
        details(title, f"<pre>{escape(json.dumps(record, indent=2, ensure_ascii=False))}</pre>")
        for title, record in records.items()
    ]
    return section("What ran", [table(["stage", "status", "time"], [*rows, ["all", "", f"{total:.0f} s"]]), *full])


def _csv_table(path: Path) -> str:
    with open(path, newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    return table(head, rows)


def _results(folder: Path, name: str) -> dict[str, Any]:
    results: dict[str, Any] = _json(folder / UNET / "eval" / name / "run.json").get("results", {})
    return results


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, "--folder") if path.is_file() else {}
