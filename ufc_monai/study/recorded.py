"""The figures of a study as two small files, from which its tables can be made anew."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ufc_monai.files import atomic_path, read_json, write_json
from ufc_monai.study.results import Results, Tested, Validated, Volume
from ufc_monai.study.runs import FINE_TUNING, Run

__all__ = ["read_recorded", "write_recorded"]

MEASURES = ("dice", "hd95_mm", "both", "predicted", "reference")
KEPT = ("methods", "budgets", "structures", "pretrained", "probes", "clusters", "failed")
"""What of the results ``study_figures.json`` holds as it is."""
BETWEEN = "; "
"""Between the names of structures that have not converged."""


def write_recorded(folder: Path, results: Results, clusterings: Sequence[str]) -> None:
    """Write both files.

    Args:
        folder: of the study.
        results: all that the tables are made of.
        clusterings: as the study was asked for them.
    """
    head = ["run", "method", "labels", "labelled_volumes", "fold", "label_draw", "pretraining_seed"]
    head += ["fine_tuning_seed", "counted", "not_converged"]
    head += ["steps", "validations", "validation_dice", "best_step", "volume", "patient", "dice"]
    head += [f"{measure}_{name}" for name in results.structures for measure in MEASURES]
    with (
        atomic_path(folder / "study.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        rows = csv.writer(file)
        rows.writerow(head)
        for t in results.tested:
            rows.writerows(_row(t, volume, results.structures) for volume in t.volumes)
    planned = [[*key, n] for key, n in results.planned.items()]
    kept = {name: getattr(results, name) for name in KEPT}
    write_json(folder / "study_figures.json", {**kept, "planned": planned, "clusterings": list(clusterings)})


def read_recorded(path: Path) -> tuple[Results, list[str]]:
    """What :func:`write_recorded` has written, and how the study was asked for its clusterings.

    Args:
        path: the CSV file; beside it lies the other, ``study_figures.json`` or one of the CSV's name.
    """
    beside = path.with_name("study_figures.json") if path.name == "study.csv" else path.with_suffix(".json")
    content: dict[str, Any] = read_json(beside, "study_figures.json")
    runs: dict[str, tuple[dict[str, str], list[Volume]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            runs.setdefault(row["run"], (row, []))[1].append(_volume(row, content["structures"]))
    return Results(
        **{name: content[name] for name in KEPT},
        tested=[_tested(name, row, volumes) for name, (row, volumes) in runs.items()],
        planned={(method, budget): n for method, budget, n in content["planned"]},
    ), content["clusterings"]


def _row(t: Tested, volume: Volume, structures: Sequence[str]) -> list[Any]:
    run = t.run
    row: list[Any] = [run.name, run.method, run.budget, run.volumes, run.fold, run.draw, run.seed, run.init_seed]
    row += [run.counts, BETWEEN.join(t.not_converged)]
    row += [t.validated.steps, t.validated.times, _rounded(t.validated.dice), t.validated.step]
    row += [volume.image, volume.patient, _rounded(volume.mean_dice)]
    for name in structures:
        row += [_rounded(volume.dice.get(name)), _rounded(volume.hd95.get(name)), *volume.voxels[name]]
    return row


def _volume(row: dict[str, str], structures: Sequence[str]) -> Volume:
    of = {measure: {name: row[f"{measure}_{name}"] for name in structures} for measure in MEASURES}
    return Volume(
        row["volume"],
        row["patient"],
        {name: float(value) for name, value in of["dice"].items() if value},
        {name: float(value) for name, value in of["hd95_mm"].items() if value},
        {name: (int(of["both"][name]), int(of["predicted"][name]), int(of["reference"][name])) for name in structures},
    )


def _tested(name: str, row: dict[str, str], volumes: Sequence[Volume]) -> Tested:
    numbers = ("labelled_volumes", "label_draw", "pretraining_seed", "fine_tuning_seed")
    labelled, draw, seed, init_seed = (int(row[key]) if row[key] else None for key in numbers)
    run = Run(
        name, FINE_TUNING, (), (), (), int(row["fold"]), row["method"], row["labels"], labelled, draw, seed, init_seed,
        row["counted"] == "True",
    )  # fmt: skip
    validated = Validated(
        int(row["steps"]), int(row["validations"]), float(row["validation_dice"]), int(row["best_step"])
    )
    return Tested(run, tuple(volumes), tuple(filter(None, row["not_converged"].split(BETWEEN))), validated)


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
