"""The tables of a study, as rows of text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from ufc_monai.study.results import BETWEEN, PRETRAINED, Results
from ufc_monai.study.statistics import Noise, Spread
from ufc_monai.study.verdict import comparisons

__all__ = ["Table", "study_tables"]


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: of it.
        head: the columns' titles.
        rows: cells of text.
        caption: how to read it.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    caption: str


def study_tables(results: Results) -> list[Table]:
    """All tables.

    Args:
        results: of the study.
    """
    return [
        _methods_by_budgets(results),
        _differences(results),
        *_clusterings_by_k(results),
        _other_measures(results),
        _structures(results),
        _pretraining(results),
        _validation(results),
        _unconverged(results),
    ]


def _methods_by_budgets(results: Results) -> Table:
    rows = []
    for method in results.methods:
        auc = _number(pd.Series(results.probes.get(method, []), dtype=float).mean(), ".3f")
        rows.append([method, *(_cell(results, method, budget) for budget in results.budgets), auc])
    return Table(
        "Dice by methods and labels",
        ["mean Dice, %", *results.budgets, "probe AUC"],
        rows,
        "Mean (standard deviation over seeds; over folds), columns: labelled volumes. Dice is taken per volume over "
        "the structures present, then over volumes, repeats and folds. † runs with a structure that has not converged; "
        "‡ runs that there are of those planned. Probe: is a structure in the slice, from frozen features; of random, "
        "that of an untrained encoder.",
    )


def _cell(results: Results, method: str, budget: str) -> str:
    found, stuck = results.spread(method, budget), len(results.not_converged(method, budget))
    if not found.runs:
        return "-"
    planned = sum(n for *arm, n in results.planned if arm == [method, budget])
    marks = [f"†{stuck}"] if stuck else []
    marks += [f"‡{found.runs} of {planned}"] if found.runs < planned else []
    return " ".join([_spread(found), *marks])


def _differences(results: Results) -> Table:
    rows = []
    for one, other in comparisons(results):
        for budget in results.budgets:
            found = results.difference(one, other, budget)
            if found is None:
                continue
            noise = [_noise(results.noise(method, budget)) for method in (one, other)]
            stuck = [str(len(results.not_converged(method, budget))) for method in (one, other)]
            rows.append([
                f"{one} - {other}", budget, f"{found.mean:+.1f}", f"[{found.low:.1f}, {found.high:.1f}]",
                f"{found.p:.3f}", str(found.patients), str(found.repeats), " / ".join(noise), " / ".join(stuck),
            ])  # fmt: skip
    return Table(
        "Paired differences",
        ["difference", "labels", "Dice", "95 %", "p", "patients", "repeats", "noise of a run", "not converged"],
        rows,
        "In points of mean Dice, within test patients and repeats (a seed with its labels). Interval: bootstrap over "
        "patients and repeats at once; with one repeat over patients alone. p: permutation test over patients. Noise: "
        "standard deviation between runs of each arm with the same labels and other seeds (number of runs).",
    )


def _clusterings_by_k(results: Results) -> list[Table]:
    """One table a budget: clusterings by their number of clusters."""
    asked = [text.partition(":")[::2] for text in results.clusterings]
    if not asked:
        return []
    names, values = list(dict.fromkeys(n for n, _ in asked)), sorted({v for _, v in asked}, key=float)
    caption = "Mean Dice, % (standard deviation over seeds; over folds) of UFC; columns: the number of clusters."
    if "dbscan" in names:
        caption += " Of dbscan, eps, and in square brackets the clusters that it finds."
    tables = []
    for budget in results.budgets:
        rows = [
            [n, *(_clustering_cell(results, n, v, budget) if (n, v) in asked else "" for v in values)] for n in names
        ]
        tables.append(Table(f"Clusterings at {budget} labelled volumes", ["clusters", *values], rows, caption))
    return tables


def _clustering_cell(results: Results, name: str, value: str, budget: str) -> str:
    found = results.clusters.get(f"clusters_{name}_{value}", [])
    note = f" [{sum(found) / len(found):.0f}]" if name == "dbscan" and found else ""
    return _cell(results, f"ufc_{name}_{value}", budget) + note


def _arms(results: Results) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Method, budget and counted runs, where there are such."""
    for method in results.methods:
        for budget in results.budgets:
            if len(runs := results.counted(method, budget)):
                yield method, budget, runs


def _other_measures(results: Results) -> Table:
    rows = []
    for method, budget, runs in _arms(results):
        measured = results.measured[results.measured["run"].isin(runs.index)]
        present, near = measured["dice"].count(), measured["hd95_mm"].count()
        dice, hd95, pooled = (
            _spread(results.spread(method, budget, runs[score])) for score in ("dice", "hd95_mm", "pooled")
        )
        rows.append([method, budget, dice, str(present), hd95, f"{near} of {present}", pooled])
    return Table(
        "Dice, HD95, pooled Dice",
        ["method", "labels", "Dice, %", "defined", "HD95", "defined", "pooled Dice, %"],
        rows,
        "Mean (standard deviation over seeds; over folds). Defined: structures of volumes, over all runs. Dice needs "
        "the structure in the reference, HD95 in the prediction as well: an arm that misses a structure altogether has "
        "no distance there, so read HD95 with its count; in mm, of pictures in pixels. Pooled: voxels of all test "
        "volumes together.",
    )


def _structures(results: Results) -> Table:
    rows = []
    for method, budget, _ in _arms(results):
        means = (results.spread(method, budget, results.by_structure[name]).mean for name in results.structures)
        rows.append([method, budget, *(_number(mean) for mean in means)])
    return Table(
        "Dice by structure",
        ["Dice, %", "labels", *results.structures],
        rows,
        "Mean over the volumes that hold the structure, then over repeats and folds.",
    )


def _pretraining(results: Results) -> Table:
    names = [n for n in PRETRAINED if any(n in run for runs in results.pretrained.values() for run in runs)]
    rows = []
    for method, runs in results.pretrained.items():
        found = pd.DataFrame(runs).reindex(columns=["steps", *names]).astype(float)
        means = (_number(found[name].mean(), ".3g") for name in names)
        rows.append([method, str(len(runs)), _range(found["steps"].dropna()), *means])
    return Table(
        "Pretraining",
        ["method", "runs", "steps", *(name.replace("_", " ") for name in names)],
        rows,
        "At the end, means over runs. Chance: the loss if all embeddings were the same; losses of different methods "
        "cannot be compared. Effective rank: directions that embeddings use; near 1 they have collapsed. Alignment: "
        "distance of two views; uniformity: spread over the sphere; lower is better in both.",
    )


def _validation(results: Results) -> Table:
    rows = []
    for method, budget, runs in _arms(results):
        dice = _spread(results.spread(method, budget, runs["validation_dice"]))
        best = (100 * runs["best_step"] / runs["steps"])[runs["validations"] > 0]
        best_after = f"{_range(best)} %" if len(best) else "-"
        rows.append([method, budget, _range(runs["steps"]), _range(runs["validations"]), dice, best_after])
    return Table(
        "Validation",
        ["method", "labels", "steps", "validations", "Dice, %", "best after"],
        rows,
        "Dice of the validation volumes on the network's grid, at its best of so many validations: those weights were "
        "tested. Best after: the share of the steps; near 100 %, or with few validations, more steps may help. Choose "
        "the steps by this table, with random alone.",
    )


def _unconverged(results: Results) -> Table:
    stuck = results.runs["not_converged"]
    return Table(
        "Runs that have not converged",
        ["run", "structures"],
        [[str(run), names.replace(BETWEEN, ", ")] for run, names in stuck[stuck != ""].items()],
        "Structures with a Dice below 10 % on the very volumes that were trained on.",
    )


def _spread(found: Spread) -> str:
    if math.isnan(found.mean):
        return "-"
    return f"{found.mean:.1f} ({_number(found.over_seeds)}; {_number(found.over_folds)})"


def _noise(found: Noise) -> str:
    return "-" if math.isnan(found.sd) else f"{found.sd:.1f} ({found.runs})"


def _range(values: pd.Series) -> str:
    if values.empty:
        return "-"
    low, high = round(values.min()), round(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float, form: str = ".1f") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}"
