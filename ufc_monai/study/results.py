"""What the complete runs of a study have measured."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.errors import InputError
from ufc_monai.files import read_json
from ufc_monai.report.curves import read_metrics
from ufc_monai.study.arms import RANDOM
from ufc_monai.study.runs import CLUSTERS, FINE_TUNING, PRETRAINING, PROBE, Run
from ufc_monai.study.state import COMPLETE, FAILED, states_of
from ufc_monai.study.statistics import Noise, Paired, Spread, interval, noise_within, paired_difference, spread

__all__ = ["PRETRAINED", "Results", "Tested", "Validated", "Volume", "read_results"]

PRETRAINED = ("loss", "chance", "effective_rank", "alignment", "uniformity", "explained")
"""What a study keeps of a pretraining at its end, as its ``run.json`` names it."""


@dataclass(frozen=True)
class Volume:
    """One test volume of one run.

    Attributes:
        image: its path relative to the data set's folder.
        patient: whose it is.
        dice: by structure, in per cent; those that the reference holds.
        hd95: by structure, in mm; those that reference and prediction hold.
        voxels: by structure, voxels of both, of the prediction and of the reference.
    """

    image: str
    patient: str
    dice: dict[str, float]
    hd95: dict[str, float]
    voxels: dict[str, tuple[int, int, int]]

    @property
    def mean_dice(self) -> float | None:
        """Over the structures that the reference holds."""
        return statistics.fmean(self.dice.values()) if self.dice else None


@dataclass(frozen=True)
class Validated:
    """What a fine-tuning shows of itself without the test patients.

    Attributes:
        steps: of the training.
        times: how often it was validated.
        dice: of the validation volumes in per cent, at its best; those weights were kept. NaN without validation.
        step: at which it was best; 0 without validation.
    """

    steps: int
    times: int
    dice: float
    step: int


@dataclass(frozen=True)
class Tested:
    """A complete fine-tuning with its test.

    Attributes:
        run: which it is.
        volumes: those tested.
        not_converged: structures that stayed near 0 on the training volumes themselves.
        validated: how it did on validation volumes.
    """

    run: Run
    volumes: tuple[Volume, ...]
    not_converged: tuple[str, ...]
    validated: Validated

    @property
    def score(self) -> float:
        """Mean Dice in per cent: over the structures present in a volume, then over volumes."""
        return _mean([v.mean_dice for v in self.volumes if v.mean_dice is not None])

    @property
    def hd95(self) -> float:
        """Mean over structures and volumes where it is defined, in mm."""
        return _mean([distance for v in self.volumes for distance in v.hd95.values()])

    @property
    def pooled(self) -> float:
        """Dice in per cent of all voxels of all volumes together, then the mean over structures."""
        dice = []
        for structure in dict.fromkeys(name for v in self.volumes for name in v.voxels):
            both, predicted, reference = np.sum([v.voxels[structure] for v in self.volumes], axis=0)
            if reference:
                dice.append(200 * both / (predicted + reference))
        return _mean(dice)

    def dice_of(self, structure: str) -> float:
        """Mean over the volumes whose reference holds a structure."""
        return _mean([v.dice[structure] for v in self.volumes if structure in v.dice])


@dataclass(frozen=True)
class Results:
    """All that the tables and the verdict are made of.

    Attributes:
        methods: names of the arms, in order.
        budgets: in order.
        structures: in order.
        tested: the complete fine-tunings.
        pretrained: of every pretraining by arm its steps and what :data:`PRETRAINED` names, where there is such.
        probes: AUC of the linear probe by arm; of ``random``, that of the untrained encoder.
        clusters: number of clusters of each clustering, by the run's name.
        planned: how many fine-tunings the tables count.
        failed: names of failed runs.
    """

    methods: list[str]
    budgets: list[str]
    structures: list[str]
    tested: list[Tested]
    pretrained: dict[str, list[dict[str, float]]]
    probes: dict[str, list[float]]
    clusters: dict[str, list[int]]
    planned: dict[tuple[str, str], int]
    failed: list[str]

    def counted(self, method: str, budget: str) -> list[Tested]:
        """The fine-tunings of one arm at one budget that the tables count."""
        return [t for t in self.tested if t.run.counts and (t.run.method, t.run.budget) == (method, budget)]

    def spread(self, method: str, budget: str, score: Callable[[Tested], float] = lambda t: t.score) -> Spread:
        """Mean and spread of some score of one arm at one budget."""
        found = {(t.run.fold, (t.run.draw or 0, t.run.init_seed or 0)): score(t) for t in self.counted(method, budget)}
        folds = sorted({fold for fold, _ in found})
        repeats = sorted({repeat for _, repeat in found})
        table = [[found.get((fold, repeat), np.nan) for repeat in repeats] for fold in folds]
        return spread(np.array(table, dtype=float).reshape(len(folds), len(repeats)))

    def difference(self, one: str, other: str, budget: str) -> Paired | None:
        """The paired difference of mean Dice of two arms at one budget, in points."""
        first, second = (_by_repeat_and_patient(self.counted(method, budget)) for method in (one, other))
        return paired_difference(_table({key: first[key] - second[key] for key in first.keys() & second.keys()}))

    def interval(self, method: str, budget: str) -> tuple[float, float, float] | None:
        """Mean Dice of one arm at one budget over repeats and patients, with its 95 % interval."""
        table = _table(_by_repeat_and_patient(self.counted(method, budget)))
        return (float(np.nanmean(table)), *interval(table)) if table.size else None

    def noise(self, method: str, budget: str) -> Noise:
        """Of mean Dice between runs with the same labels and test volumes and other seeds."""
        groups: dict[tuple[Any, ...], list[float]] = {}
        for t in self.tested:
            if (t.run.method, t.run.budget) == (method, budget):
                groups.setdefault((t.run.fold, t.run.draw), []).append(t.score)
        return noise_within(np.array(scores) for scores in groups.values())

    def not_converged(self, method: str, budget: str) -> list[Tested]:
        """The counted fine-tunings with a structure that was not learned."""
        return [t for t in self.counted(method, budget) if t.not_converged]


def read_results(folder: Path, runs: Sequence[Run]) -> Results:
    """Read what a study's complete runs have left; others are left out.

    Args:
        folder: of the study.
        runs: its plan.

    Raises:
        InputError: if the metrics of a complete fine-tuning are gone.
    """
    patients = {image: entry["patient"] for image, entry in _json(folder / "split.json")["images"].items()}
    states = states_of(folder, runs)
    complete = [run for run in runs if states[run.name] == COMPLETE]
    fine_tunings = [run for run in runs if run.kind == FINE_TUNING]
    tested = [_tested(folder, run, patients) for run in complete if run.kind == FINE_TUNING]
    structures = dict.fromkeys(name for t in tested for v in t.volumes for name in v.voxels)
    planned: dict[tuple[str, str], int] = {}
    for run in fine_tunings:
        key = (str(run.method), str(run.budget))
        planned[key] = planned.get(key, 0) + run.counts
    return Results(
        methods=list(dict.fromkeys(str(run.method) for run in fine_tunings)),
        budgets=list(dict.fromkeys(str(run.budget) for run in fine_tunings)),
        structures=list(structures),
        tested=tested,
        pretrained=_pretrained(folder, complete),
        probes=_probes(folder, complete),
        clusters=_clusters(folder, complete),
        planned=planned,
        failed=[name for name, state in states.items() if state == FAILED],
    )


def _tested(folder: Path, run: Run, patients: dict[str, str]) -> Tested:
    training = _json(folder / run.records[0])
    rows: dict[str, list[dict[str, str]]] = {}
    with open((folder / run.records[1]).with_name("structures.csv"), newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["volume"], []).append(row)
    volumes = tuple(_volume(image, patients.get(image, image), part) for image, part in rows.items())
    validated = _validated((folder / run.records[0]).with_name("metrics.jsonl"))
    return Tested(run, volumes, tuple(training["results"].get("not_converged", ())), validated)


def _validated(path: Path) -> Validated:
    if not path.is_file():
        raise InputError(f"--folder: {path} is gone. Delete {path.parent.parent} to repeat this run.")
    epochs = read_metrics(path)
    validated = [epoch for epoch in epochs if "val_mean_dice" in epoch]
    nothing: dict[str, Any] = {"val_mean_dice": float("nan"), "iteration": 0}
    best = max(validated, key=lambda epoch: epoch["val_mean_dice"], default=nothing)
    return Validated(epochs[-1]["iteration"], len(validated), 100 * best["val_mean_dice"], best["iteration"])


def _volume(image: str, patient: str, rows: Sequence[dict[str, str]]) -> Volume:
    counts = ("intersection", "predicted", "reference")
    return Volume(
        image,
        patient,
        {row["structure"]: 100 * float(row["dice"]) for row in rows if row["dice"]},
        {row["structure"]: float(row["hd95_mm"]) for row in rows if row["hd95_mm"]},
        {row["structure"]: (int(row[counts[0]]), int(row[counts[1]]), int(row[counts[2]])) for row in rows},
    )


def _pretrained(folder: Path, complete: Sequence[Run]) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {}
    for run in complete:
        if run.kind == PRETRAINING:
            results = _json(folder / run.records[0])["results"]
            epochs = read_metrics((folder / run.records[0]).with_name("metrics.jsonl"))
            figures = {"steps": epochs[-1]["iteration"]} if epochs else {}
            figures |= {name: results[name] for name in PRETRAINED if name in results}
            found.setdefault(str(run.method), []).append(figures)
    return found


def _probes(folder: Path, complete: Sequence[Run]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in complete:
        if run.kind == PROBE:
            mean = _json((folder / run.records[0]).with_name("probe.json"))["mean"]
            for method, which in ((str(run.method), "pretrained"), (RANDOM, "untrained")):
                if mean[which] is not None:
                    found.setdefault(method, []).append(mean[which])
    return found


def _clusters(folder: Path, complete: Sequence[Run]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for run in complete:
        if run.kind == CLUSTERS:
            labels = _json((folder / run.records[0]).with_name("pseudo_labels.json"))
            found.setdefault(run.name.partition("/")[2], []).append(labels["n_clusters"])
    return found


def _by_repeat_and_patient(tested: Sequence[Tested]) -> dict[tuple[tuple[int, int], tuple[int, str]], float]:
    """Mean Dice of each patient in each repeat; a patient of two folds' tests counts as two."""
    found: dict[tuple[tuple[int, int], tuple[int, str]], list[float]] = {}
    for t in tested:
        for volume in t.volumes:
            if volume.mean_dice is not None:
                repeat = (int(t.run.draw or 0), int(t.run.init_seed or 0))
                found.setdefault((repeat, (t.run.fold, volume.patient)), []).append(volume.mean_dice)
    return {key: statistics.fmean(values) for key, values in found.items()}


def _table(values: Mapping[tuple[tuple[int, int], tuple[int, str]], float]) -> NDArray[np.float64]:
    """(repeats, patients), NaN where there is none."""
    repeats, patients = sorted({r for r, _ in values}), sorted({p for _, p in values})
    table = np.full((len(repeats), len(patients)), np.nan)
    for (repeat, patient), value in values.items():
        table[repeats.index(repeat), patients.index(patient)] = value
    return table


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else float("nan")


def _json(path: Path) -> dict[str, Any]:
    return read_json(path, "--folder")
