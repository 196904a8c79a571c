"""The report of a run: one HTML file made of what its stages have left."""

from __future__ import annotations

import json
import os
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ufc_monai.base import chain
from ufc_monai.base.bundles import VAE
from ufc_monai.base.chain import data_set_of, record_of, standing_record
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, sha256_of
from ufc_monai.base.rounds import run_of
from ufc_monai.base.tables import read_table
from ufc_monai.report.curves import curves_svg, read_metrics, rounds_svg
from ufc_monai.report.page import data_uri, png, write_page
from ufc_monai.report.quality import HEAD as QUALITY_HEAD
from ufc_monai.report.quality import quality_rows, read_quality
from ufc_monai.report.rounds import HEAD as ROUNDS_HEAD
from ufc_monai.report.rounds import NO_TEST, read_rounds
from ufc_monai.report.summary import PAIRS_HEAD, PAIRS_MEAN, column_means, dice_files, judgement, pair_rows
from ufc_monai.report.volumes import unlabelled_volumes, volumes_of_test

DICE = [["loss"], ["val_mean_dice"]]
SPHERE = [["loss", "chance"], ["effective_rank"], ["alignment", "uniformity"]]
CURVES = {
    "vae": (chain.VAE_TRAINING, [["explained"], ["kl"], ["active_dimensions"]]),
    "contrastive": (chain.PRETRAINING, SPHERE),
    **{arm: (training, DICE) for arm, (training, _) in chain.ARMS.items()},
}
"""The stages whose metrics are drawn, and which of them, a list for each panel."""


def write_report(run_folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the report of a run.

    Args:
        run_folder: holds the three bundles with what their runs have left; what has not run is left out. Of a round's,
            the page also tells of the other rounds.
        path: the HTML file.

    Raises:
        InputError: if nothing has run there.
    """
    folder = Path(run_folder)
    records = {stage.title: record for stage in chain.STAGES if (record := record_of(folder, stage))}
    if not records:
        raise InputError(f"--folder: no stage has run in {folder}: there is no {folder / chain.VAE_TRAINING.record}.")
    probe = found_json(folder / chain.PROBED, "--folder")
    labelling = read_rounds(run_of(folder))
    points = [(found.volumes, found.dice) for found in labelling if found.dice is not None]
    calibration = standing_record(folder, chain.MASKS).get("results", {}).get("quality")
    scans = read_quality(folder / chain.QUALITY) if calibration else []
    write_page(
        path,
        "run.html",
        **_about(folder, records),
        **_dice(folder),
        labels=found_json(folder / chain.LABELS, "--folder"),
        clusterings=_clusterings(folder / VAE / "eval", probe),
        probe=probe,
        patients=_nearest_patients(folder / chain.CLUSTERS.place / "patients.csv"),
        samples=sorted(file.relative_to(folder).as_posix() for file in folder.glob(f"{VAE}/eval/samples/*.png")),
        agreement=_agreement(folder / VAE / "eval" / "agreement" / "agreement.csv"),
        pairs_head=PAIRS_HEAD,
        pairs=pair_rows(probe.get("false_negatives") or {}),
        pairs_mean=PAIRS_MEAN,
        pictures={file.relative_to(folder).as_posix(): png(file) for file in folder.glob("*/eval/*/*.png")},
        rounds=_rounds(folder, records),
        labelling_head=ROUNDS_HEAD,
        labelling=[found.cells for found in labelling],
        labelling_curve=data_uri(rounds_svg(points).encode(), "svg+xml") if points else "",
        no_test=NO_TEST,
        arms=list(reversed(chain.ARMS)),
        quality_head=QUALITY_HEAD,
        calibration=calibration,
        quality=quality_rows(scans),
        unlabelled=unlabelled_volumes(folder / chain.MASKS.place, scans),
        curves={
            name: data_uri(curves_svg(read_metrics(folder / stage.place / "metrics.jsonl"), panels).encode(), "svg+xml")
            for name, (stage, panels) in CURVES.items()
        },
    )


def _about(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What ran, and what stands in the way of believing its figures."""
    commands = {title: [str(word) for word in record.get("command", [])] for title, record in records.items()}
    data_set = next(filter(None, map(data_set_of, records.values())), "")
    return {
        "records": records,
        "data_set": data_set,
        "name": Path(data_set).name or "Run",
        "began": next(iter(records.values())).get("started", "")[:16].replace("T", " "),
        "split": found_json(folder / chain.SPLIT, "--folder"),
        "seconds": sum(record.get("seconds", 0) for record in records.values()),
        "in_full": {
            title: f"{_as_typed(commands[title])}\n\n{json.dumps(record, indent=2, ensure_ascii=False)}"
            for title, record in records.items()
        },
        "outdated": [s.title for s in chain.STAGES if s.title in records and not standing_record(folder, s)],
        "other_clusters": _other_clusters(folder),
        "stale": [title for title, record in records.items() if record.get("stale")],
        "skipped": {image: why for record in records.values() for image, why in record.get("skipped", {}).items()},
        "stuck": sorted({n for r in records.values() for n in r.get("results", {}).get("not_converged", [])}),
    }


def _as_typed(command: Sequence[str]) -> str:
    """The words of a process as a command; of a module they hold its file."""
    of_monai = Path(*command[:1]).parts[-3:] == ("monai", "bundle", "__main__.py")
    return shlex.join(["python", *(["-m", "monai.bundle"] if of_monai else command[:1]), *command[1:]])


def _other_clusters(folder: Path) -> str:
    """The pseudo-labels of stage 2, if they are not those that the report shows."""
    used = Path((record_of(folder, chain.PRETRAINING).get("inputs", {}).get("pseudo_labels") or {}).get("path", ""))
    shown = Path(chain.LABELS).parts
    return str(used) if used.name and used.parts[-len(shown) :] != shown else ""


def _dice(folder: Path) -> dict[str, Any]:
    """Dice of the fine-tuning and its controls: of each test volume, and the means on test and training volumes."""
    files = dict(reversed(dice_files(folder).items()))  # the run's own arm first
    training = {arm: dice for arm in files if (dice := _training_dice(folder, arm))}
    return {
        "volumes": {arm: _three_digits(path) for arm, path in files.items()},
        "test": volumes_of_test(files),
        "means": {arm: column_means(path)["mean"] for arm, path in files.items()},
        "training_dice": training,
        "budget": standing_record(folder, chain.FINE_TUNING).get("settings", {}).get("labelled_volumes"),
        "judgement": judgement(folder) if files else "",
    }


def _three_digits(path: Path) -> list[list[str]]:
    """A ``dice.csv``, worst first, to as many digits as Dice has everywhere."""
    rows = sorted(read_table(path), key=lambda row: float(row["mean"] or 2))
    return [[*rows[0]], *([name, *map(_three, cells)] for name, *cells in (row.values() for row in rows))]


def _three(cell: str) -> str:
    return f"{float(cell):.3f}" if cell else "-"


def _training_dice(folder: Path, arm: str) -> dict[str, float]:
    """Dice on the training volumes by structure, and their mean."""
    results, name = record_of(folder, chain.ARMS[arm][0]).get("results", {}), "training_dice_"
    dice = {key.removeprefix(name): value for key, value in results.items() if key.startswith(name)}
    return {**dice, "mean": statistics.fmean(dice.values())} if dice else {}


def _rounds(folder: Path, records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rounds of self-training: of each structure the share of its voxels that is learned, and the agreement."""
    if "self_training" not in records.get(chain.FINE_TUNING.title, {}).get("results", {}):
        return []  # what lies there is of an earlier training
    places = (folder / chain.FINE_TUNING.place).glob("unlabelled_labels/round_*/round.json")
    files = (found_json(path, "--folder") for path in places)
    found = sorted(files, key=lambda content: content["round"])
    for content in found:
        predicted, kept = (np.sum([v[key] for v in content["volumes"]], axis=0) for key in ("predicted", "kept"))
        agreement = content.get("agreement", [None] * len(predicted))
        rows = zip(content["names"], predicted.tolist(), kept.tolist(), agreement, strict=True)
        content["structures"] = {name: (k / p if p else None, agreed) for name, p, k, agreed in rows}
        content["off"] = [content["names"][c] for c in content["off"]]
    return found


def _nearest_patients(path: Path) -> list[list[str]]:
    """The table of patients without their histograms; empty if there is none."""
    rows = read_table(path) if path.is_file() else []
    chosen = [name for name in rows[0] if not name.startswith("cluster_")] if rows else []
    return [chosen, *([row[name] for name in chosen] for row in rows)] if rows else []


def _agreement(path: Path) -> list[list[str]]:
    """The table of agreement with an observer's labels, intervals beside the figures; empty if there is none."""
    found = read_table(path) if path.is_file() else []
    measures = [name for name in found[0] if name != "method" and not name.endswith(("_low", "_high"))] if found else []
    rows = [[row["method"], *(_with_interval(row, measure) for measure in measures)] for row in found]
    return [["method", *(measure.replace("_", " ") for measure in measures)], *rows] if found else []


def _with_interval(row: Mapping[str, str], measure: str) -> str:
    interval = f" [{row[f'{measure}_low']}, {row[f'{measure}_high']}]" if row.get(f"{measure}_low") else ""
    return f"{row[measure]}{interval}" or "-"


def _clusterings(folder: Path, probe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All clusterings of the features that the report shows, the one shown first."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/pseudo_labels*.json"), key=_shown_first):
        labels = found_json(path, "--folder")
        pairs = probe.get("clusterings", {}).get(path.relative_to(folder).as_posix(), {})
        known = pairs.get("false_negatives") is not None and pairs["sha256"] == sha256_of(path)
        place = path.parent.name + path.stem.removeprefix("pseudo_labels").replace("_", ", ")
        found.append({"labels": labels, "place": place, "false_negatives": pairs["false_negatives"] if known else None})
    models = [entry["labels"]["provenance"].get("model_sha256") for entry in found]
    return [entry for entry, model in zip(found, models, strict=True) if model == models[0]]


def _shown_first(path: Path) -> tuple[bool, str, int, str]:
    """The clusters shown above first, then by folder, cuts of one tree from few to many clusters."""
    return path.parent.name != "inference", path.parent.name, len(path.name), path.name
