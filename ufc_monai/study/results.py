"""What the complete runs of a study have measured: one tidy table, and what the tables need beside it.

Both are kept as small files, ``study.csv`` and ``study_figures.json``, from which all tables can be made again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, read_json, write_json
from ufc_monai.planning.stages import COMPLETE
from ufc_monai.report.curves import read_metrics
from ufc_monai.study.arms import RANDOM
from ufc_monai.study.runs import CLUSTERS, FAILED, FINE_TUNING, PRETRAINING, PROBE, Run
from ufc_monai.study.statistics import Noise, Paired, Spread, interval, noise_within, paired_difference, spread

PRETRAINED = ("loss", "chance", "effective_rank", "alignment", "uniformity", "explained")
"""What a study keeps of a pretraining at its end, as its ``run.json`` names it."""
FIELDS = {
    "run": "name", "method": "method", "labels": "budget", "labelled_volumes": "volumes", "fold": "fold",
    "label_draw": "draw", "pretraining_seed": "seed", "fine_tuning_seed": "init_seed", "counted": "counts",
}  # fmt: skip
"""Columns of the tidy table that are fields of :class:`Run`."""
OF_RUN = [*FIELDS, "not_converged", "steps", "validations", "validation_dice", "best_step"]
"""Columns that are the same in all rows of a run."""
COLUMNS = [*OF_RUN, "volume", "patient", "structure", "dice", "hd95_mm", "both", "predicted", "reference"]
TEXT = dict.fromkeys(("run", "method", "labels", "not_converged", "volume", "patient", "structure"), str)
"""Columns that stay text, even if it looks like a number or a gap."""
GAPS = {"validation_dice": [""], "dice": [""], "hd95_mm": [""]}
"""Columns that may have gaps."""
BETWEEN = "; "
"""Between the names of structures that have not converged."""
REPEAT = ["label_draw", "fine_tuning_seed"]


@dataclass(frozen=True, eq=False)
class Results:
    """All that the tables and the verdict are made of.

    Attributes:
        measured: one row for each complete fine-tuning, test volume and structure, with the columns :data:`COLUMNS`:
            ``counted`` is False for runs that only tell the noise of initialisation, ``validation_dice`` is the best
            on the validation volumes, reached at ``best_step`` (NaN and 0 without validation). Dice are percentages,
            NaN where the reference lacks the structure; HD95 is NaN where reference or prediction lacks it. ``both``,
            ``predicted`` and ``reference`` are voxel counts.
        methods: names of the arms, in order.
        budgets: in order.
        pretrained: by arm, for every pretraining its steps and those of :data:`PRETRAINED` that it has.
        probes: AUC of the linear probe by arm; for ``random``, that of the untrained encoder.
        clusters: number of clusters of each clustering, by the run's name.
        failed: names of failed runs.
        planned: method, budget, and how many of its fine-tunings the tables count.
        clusterings: ``NAME:VALUE``, as they were requested.
    """

    measured: pd.DataFrame
    methods: list[str]
    budgets: list[str]
    pretrained: dict[str, list[dict[str, float]]]
    probes: dict[str, list[float]]
    clusters: dict[str, list[int]]
    failed: list[str]
    planned: list[tuple[str, str, int]]
    clusterings: list[str]

    @cached_property
    def structures(self) -> list[str]:
        """In order."""
        return list(self.measured["structure"].unique())

    @cached_property
    def volumes(self) -> pd.DataFrame:
        """One row a run and test volume; ``dice`` is the mean over the structures that the reference holds."""
        rows = self.measured.groupby([*OF_RUN, "volume", "patient"], sort=False, dropna=False)
        return rows["dice"].mean().reset_index()

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run, by its name.

        ``dice`` is the mean over volumes, ``hd95_mm`` that over structures and volumes where it is defined, ``pooled``
        the Dice of all voxels of all volumes together, averaged over structures.
        """
        voxels = self.measured.groupby(["run", "structure"])[["both", "predicted", "reference"]].sum()
        voxels = voxels[voxels["reference"] > 0]
        return (
            self.measured[OF_RUN]
            .drop_duplicates("run")
            .set_index("run")
            .assign(
                dice=self.volumes.groupby("run")["dice"].mean(),
                hd95_mm=self.measured.groupby("run")["hd95_mm"].mean(),
                pooled=(200 * voxels["both"] / (voxels["predicted"] + voxels["reference"])).groupby("run").mean(),
            )
        )

    @cached_property
    def by_structure(self) -> pd.DataFrame:
        """Mean Dice over the volumes that hold a structure, (runs, structures)."""
        return self.measured.groupby(["run", "structure"])["dice"].mean().unstack()

    def counted(self, method: str, budget: str, table: pd.DataFrame | None = None) -> pd.DataFrame:
        """The fine-tunings of one arm at one budget that the tables count: rows of :attr:`runs`, or of ``table``."""
        rows = self.runs if table is None else table
        return rows[rows["counted"] & (rows["method"] == method) & (rows["labels"] == budget)]

    def spread(self, method: str, budget: str, scores: pd.Series | None = None) -> Spread:
        """Mean and spread of one arm at one budget.

        Args:
            method: name of the arm.
            budget: of labels.
            scores: by the run's name; mean Dice by default.
        """
        runs = self.counted(method, budget).assign(score=self.runs["dice"] if scores is None else scores)
        return spread(runs.pivot(index="fold", columns=REPEAT, values="score").to_numpy(float))

    def difference(self, one: str, other: str, budget: str) -> Paired | None:
        """The paired difference of mean Dice of two arms at one budget, in points."""
        first, second = (self._by_repeat_and_patient(method, budget) for method in (one, other))
        return paired_difference(_table(first - second))

    def interval(self, method: str, budget: str) -> tuple[float, float, float] | None:
        """Mean Dice of one arm at one budget over repeats and patients, with its 95 % interval."""
        table = _table(self._by_repeat_and_patient(method, budget))
        return (float(np.nanmean(table)), *interval(table)) if table.size else None

    def noise(self, method: str, budget: str) -> Noise:
        """Of mean Dice between runs with the same labels and test volumes and other seeds."""
        runs = self.runs[(self.runs["method"] == method) & (self.runs["labels"] == budget)]
        return noise_within(scores.to_numpy(float) for _, scores in runs.groupby(["fold", "label_draw"])["dice"])

    def not_converged(self, method: str, budget: str) -> pd.DataFrame:
        """The counted fine-tunings with a structure that was not learned."""
        runs = self.counted(method, budget)
        return runs[runs["not_converged"] != ""]

    def _by_repeat_and_patient(self, method: str, budget: str) -> pd.Series:
        """Mean Dice of each patient in each repeat; a patient of two folds' tests counts as two."""
        rows = self.counted(method, budget, self.volumes)
        return rows.groupby([*REPEAT, "fold", "patient"])["dice"].mean()

    def save(self, folder: Path) -> None:
        """Write ``study.csv`` and ``study_figures.json`` into a folder."""
        with atomic_path(folder / "study.csv") as temporary:
            self.measured.to_csv(temporary, index=False, float_format="%.4f")
        beside = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "measured"}
        write_json(folder / "study_figures.json", beside)

    @classmethod
    def load(cls, path: Path) -> Results:
        """What :meth:`save` has written.

        Args:
            path: the CSV file; beside it lies the other, ``study_figures.json`` or one of the CSV's name.
        """
        beside = path.with_name("study_figures.json") if path.name == "study.csv" else path.with_suffix(".json")
        return cls(_read_csv(path), **read_json(beside, "study_figures.json"))


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=TEXT, keep_default_na=False, na_values=GAPS)


def _table(values: pd.Series) -> NDArray[np.float64]:
    """(repeats, patients), NaN where a value is missing, both in order: resampling draws them by their place."""
    table = values.dropna().unstack(["fold", "patient"]).sort_index().sort_index(axis=1)
    return np.asarray(table, dtype=float)


def read_results(folder: Path, runs: Sequence[Run], clusterings: Sequence[str] = ()) -> Results:
    """Read what a study's complete runs have left; others are left out.

    Args:
        folder: of the study.
        runs: its plan.
        clusterings: ``NAME:VALUE``, as they were requested.

    Raises:
        InputError: if the metrics of a complete fine-tuning are gone.
    """
    patients = {image: entry["patient"] for image, entry in _json(folder / "split.json")["images"].items()}
    states = {run.name: run.state(folder) for run in runs}
    complete = [run for run in runs if states[run.name] == COMPLETE]
    tested = [_tested(folder, run, patients) for run in complete if run.kind == FINE_TUNING]
    measured = pd.concat(tested) if tested else pd.DataFrame(columns=COLUMNS)
    plan = pd.DataFrame([(run.method, run.budget, run.counts) for run in runs if run.kind == FINE_TUNING])
    return Results(
        measured=measured[COLUMNS],
        methods=list(plan[0].unique()),
        budgets=list(plan[1].unique()),
        **_beside(folder, complete),
        failed=[name for name, state in states.items() if state == FAILED],
        planned=[(*key, int(n)) for key, n in plan.groupby([0, 1], sort=False)[2].sum().items()],
        clusterings=list(clusterings),
    )


def _tested(folder: Path, run: Run, patients: dict[str, str]) -> pd.DataFrame:
    """The rows of one fine-tuning with its test."""
    training, test = (folder / record for record in run.records)
    rows = _read_csv(test.with_name("structures.csv"))
    return rows.rename(columns={"intersection": "both"}).assign(
        dice=100 * rows["dice"],
        patient=[patients.get(image, image) for image in rows["volume"]],
        not_converged=BETWEEN.join(_json(training)["results"].get("not_converged", ())),
        **{column: getattr(run, field) for column, field in FIELDS.items()},
        **_validated(training.with_name("metrics.jsonl")),
    )


def _validated(path: Path) -> dict[str, float]:
    """What a fine-tuning shows without its test patients."""
    if not path.is_file():
        raise InputError(f"--folder: {path} is gone. Delete {path.parent.parent} to repeat this run.")
    epochs = read_metrics(path)
    validated = [epoch for epoch in epochs if "val_mean_dice" in epoch]
    best: dict[str, float] = max(validated, key=lambda epoch: epoch["val_mean_dice"], default={})
    return {
        "steps": epochs[-1]["iteration"],
        "validations": len(validated),
        "validation_dice": 100 * best.get("val_mean_dice", math.nan),
        "best_step": best.get("iteration", 0),
    }


def _beside(folder: Path, complete: Sequence[Run]) -> dict[str, dict[str, list[Any]]]:
    """What pretrainings, probes and clusterings have left, for :class:`Results`."""
    pretrained, probes, clusters = (defaultdict[str, list[Any]](list) for _ in range(3))
    for run in complete:
        record = folder / run.records[0]
        if run.kind == PRETRAINING:
            results, epochs = _json(record)["results"], read_metrics(record.with_name("metrics.jsonl"))
            steps = {"steps": epochs[-1]["iteration"]} if epochs else {}
            pretrained[str(run.method)].append(steps | {name: results[name] for name in PRETRAINED if name in results})
        elif run.kind == PROBE:
            mean = _json(record.with_name("probe.json"))["mean"]
            for method, which in ((str(run.method), "pretrained"), (RANDOM, "untrained")):
                probes[method] += [] if mean[which] is None else [mean[which]]
        elif run.kind == CLUSTERS:
            clusters[run.name.partition("/")[2]].append(_json(record.with_name("pseudo_labels.json"))["n_clusters"])
    return {"pretrained": pretrained, "probes": probes, "clusters": clusters}


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, "--folder")
