"""What the complete runs of a study have measured: one tidy table, and what the tables need beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ufc_monai.errors import InputError
from ufc_monai.files import read_json
from ufc_monai.report.curves import read_metrics
from ufc_monai.study.arms import RANDOM
from ufc_monai.study.runs import CLUSTERS, FINE_TUNING, PRETRAINING, PROBE, Run
from ufc_monai.study.state import COMPLETE, FAILED, states_of
from ufc_monai.study.statistics import Noise, Paired, Spread, interval, noise_within, paired_difference, spread

__all__ = ["BETWEEN", "COLUMNS", "PRETRAINED", "Results", "read_results"]

PRETRAINED = ("loss", "chance", "effective_rank", "alignment", "uniformity", "explained")
"""What a study keeps of a pretraining at its end, as its ``run.json`` names it."""
OF_RUN: dict[str, type] = {
    "run": str, "method": str, "labels": str, "labelled_volumes": int, "fold": int, "label_draw": int,
    "pretraining_seed": int, "fine_tuning_seed": int, "counted": bool, "not_converged": str, "steps": int,
    "validations": int, "validation_dice": float, "best_step": int,
}  # fmt: skip
COLUMNS: dict[str, type] = {
    **OF_RUN, "volume": str, "patient": str, "structure": str, "dice": float, "hd95_mm": float, "both": int,
    "predicted": int, "reference": int,
}  # fmt: skip
"""Of the tidy table."""
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
        dice = self.measured.groupby(["run", "volume", "patient"], sort=False)["dice"].mean()
        return dice.reset_index().join(self._about_runs, on="run")

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run, by its name.

        ``dice`` is the mean over volumes, ``hd95_mm`` that over structures and volumes where it is defined, ``pooled``
        the Dice of all voxels of all volumes together, averaged over structures.
        """
        voxels = self.measured.groupby(["run", "structure"])[["both", "predicted", "reference"]].sum()
        voxels = voxels[voxels["reference"] > 0]
        return self._about_runs.assign(
            dice=self.volumes.groupby("run")["dice"].mean(),
            hd95_mm=self.measured.groupby("run")["hd95_mm"].mean(),
            pooled=(200 * voxels["both"] / (voxels["predicted"] + voxels["reference"])).groupby("run").mean(),
        )

    @cached_property
    def by_structure(self) -> pd.DataFrame:
        """Mean Dice over the volumes that hold a structure, (runs, structures)."""
        return self.measured.groupby(["run", "structure"])["dice"].mean().unstack()

    @cached_property
    def _about_runs(self) -> pd.DataFrame:
        return self.measured[list(OF_RUN)].drop_duplicates("run").set_index("run")

    def counted(self, method: str, budget: str) -> pd.DataFrame:
        """The fine-tunings of one arm at one budget that the tables count: rows of :attr:`runs`."""
        return _counted(self.runs, method, budget)

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
        return _counted(self.volumes, method, budget).groupby([*REPEAT, "fold", "patient"])["dice"].mean()


def _counted(table: pd.DataFrame, method: str, budget: str) -> pd.DataFrame:
    return table[table["counted"] & (table["method"] == method) & (table["labels"] == budget)]


def _table(values: pd.Series) -> NDArray[np.float64]:
    """(repeats, patients), NaN where there is none, both in order: resampling draws them by their place."""
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
    states = states_of(folder, runs)
    complete = [run for run in runs if states[run.name] == COMPLETE]
    tested = [_tested(folder, run, patients) for run in complete if run.kind == FINE_TUNING]
    measured = pd.concat(tested) if tested else pd.DataFrame(columns=list(COLUMNS))
    plan = pd.DataFrame([(run.method, run.budget, run.counts) for run in runs if run.kind == FINE_TUNING])
    return Results(
        measured=measured[list(COLUMNS)].astype(COLUMNS),
        methods=list(plan[0].unique()),
        budgets=list(plan[1].unique()),
        **_beside(folder, complete),
        failed=[name for name, state in states.items() if state == FAILED],
        planned=[(*key, int(n)) for key, n in plan.groupby([0, 1], sort=False)[2].sum().items()],
        clusterings=list(clusterings),
    )


def _tested(folder: Path, run: Run, patients: dict[str, str]) -> pd.DataFrame:
    """The rows of one fine-tuning with its test."""
    training = _json(folder / run.records[0])
    names = {"volume": str, "structure": str}
    missing: dict[str, Any] = {"keep_default_na": False, "na_values": {"dice": [""], "hd95_mm": [""]}}
    rows = pd.read_csv((folder / run.records[1]).with_name("structures.csv"), dtype=names, **missing)
    return rows.rename(columns={"intersection": "both"}).assign(
        dice=100 * rows["dice"],
        patient=[patients.get(image, image) for image in rows["volume"]],
        run=run.name,
        method=run.method,
        labels=run.budget,
        labelled_volumes=run.volumes,
        fold=run.fold,
        label_draw=run.draw,
        pretraining_seed=run.seed,
        fine_tuning_seed=run.init_seed,
        counted=run.counts,
        not_converged=BETWEEN.join(training["results"].get("not_converged", ())),
        **_validated((folder / run.records[0]).with_name("metrics.jsonl")),
    )


def _validated(path: Path) -> dict[str, float]:
    """What a fine-tuning shows of itself without the test patients."""
    if not path.is_file():
        raise InputError(f"--folder: {path} is gone. Delete {path.parent.parent} to repeat this run.")
    epochs = read_metrics(path)
    validated = [epoch for epoch in epochs if "val_mean_dice" in epoch]
    nothing: dict[str, Any] = {"val_mean_dice": float("nan"), "iteration": 0}
    best = max(validated, key=lambda epoch: epoch["val_mean_dice"], default=nothing)
    dice = {"validation_dice": 100 * best["val_mean_dice"], "best_step": best["iteration"]}
    return {"steps": epochs[-1]["iteration"], "validations": len(validated), **dice}


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
