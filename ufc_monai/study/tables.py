"""The tables of a study, as rows of text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ufc_monai.study.results import PRETRAINED, Results
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


def study_tables(results: Results, clusterings: Sequence[str]) -> list[Table]:
    """All tables.

    Args:
        results: of the study.
        clusterings: ``NAME:VALUE``, as the study was asked for them.
    """
    tables = [_methods_by_budgets(results), _differences(results), *_clusterings_by_k(results, clusterings)]
    return [
        *tables,
        _other_measures(results),
        _structures(results),
        _pretraining(results),
        _validation(results),
        _unconverged(results),
    ]


def _methods_by_budgets(results: Results) -> Table:
    rows = []
    for method in results.methods:
        probes = results.probes.get(method, [])
        auc = f"{statistics.fmean(probes):.3f}" if probes else "-"
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
    found, planned = results.spread(method, budget), results.planned.get((method, budget), 0)
    if not found.runs:
        return "-"
    stuck = len(results.not_converged(method, budget))
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
            noise = [results.noise(method, budget) for method in (one, other)]
            stuck = [len(results.not_converged(method, budget)) for method in (one, other)]
            rows.append([
                f"{one} - {other}", budget, f"{found.mean:+.1f}", f"[{found.low:.1f}, {found.high:.1f}]",
                f"{found.p:.3f}", str(found.patients), str(found.repeats), " / ".join(map(_noise, noise)),
                " / ".join(map(str, stuck)),
            ])  # fmt: skip
    return Table(
        "Paired differences",
        ["difference", "labels", "Dice", "95 %", "p", "patients", "repeats", "noise of a run", "not converged"],
        rows,
        "In points of mean Dice, within test patients and repeats (a seed with its labels). Interval: bootstrap over "
        "patients and repeats at once; with one repeat over patients alone. p: permutation test over patients. Noise: "
        "standard deviation between runs of each arm with the same labels and other seeds (number of runs).",
    )


def _clusterings_by_k(results: Results, clusterings: Sequence[str]) -> list[Table]:
    """One table a budget: clusterings by their number of clusters."""
    asked = [text.partition(":")[::2] for text in clusterings]
    if not asked:
        return []
    names, values = list(dict.fromkeys(n for n, _ in asked)), sorted({v for _, v in asked}, key=float)
    tables = []
    for budget in results.budgets:
        rows = [[n, *(_clustering_cell(results, n, v, budget, (n, v) in asked) for v in values)] for n in names]
        caption = "Mean Dice, % (standard deviation over seeds; over folds) of UFC; columns: the number of clusters."
        if "dbscan" in names:
            caption += " Of dbscan, eps, and in square brackets the clusters that it finds."
        tables.append(Table(f"Clusterings at {budget} labelled volumes", ["clusters", *values], rows, caption))
    return tables


def _clustering_cell(results: Results, name: str, value: str, budget: str, asked: bool) -> str:
    if not asked:
        return ""
    found = results.clusters.get(f"clusters_{name}_{value}", [])
    note = f" [{statistics.fmean(found):.0f}]" if name == "dbscan" and found else ""
    return _cell(results, f"ufc_{name}_{value}", budget) + note


def _other_measures(results: Results) -> Table:
    rows = []
    for method in results.methods:
        for budget in results.budgets:
            tested = results.counted(method, budget)
            if not tested:
                continue
            volumes = [v for t in tested for v in t.volumes]
            present, near = sum(len(v.dice) for v in volumes), sum(len(v.hd95) for v in volumes)
            hd95, pooled = (results.spread(method, budget, s) for s in (lambda t: t.hd95, lambda t: t.pooled))
            dice = _spread(results.spread(method, budget))
            rows.append([method, budget, dice, str(present), _spread(hd95), f"{near} of {present}", _spread(pooled)])
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
    for method in results.methods:
        for budget in results.budgets:
            if results.counted(method, budget):
                cells = [
                    f"{results.spread(method, budget, lambda t, name=name: t.dice_of(name)).mean:.1f}"  # type: ignore[misc]
                    for name in results.structures
                ]
                rows.append([method, budget, *("-" if cell == "nan" else cell for cell in cells)])
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
        steps = [run["steps"] for run in runs if "steps" in run]
        values = [[run[name] for run in runs if name in run] for name in names]
        means = [f"{statistics.fmean(found):.3g}" if found else "-" for found in values]
        rows.append([method, str(len(runs)), _range(steps) if steps else "-", *means])
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
    for method in results.methods:
        for budget in results.budgets:
            validated = [t.validated for t in results.counted(method, budget)]
            if validated:
                dice = _spread(results.spread(method, budget, lambda t: t.validated.dice))
                steps, times = _range([v.steps for v in validated]), _range([v.times for v in validated])
                best = [100 * v.step / v.steps for v in validated if v.times]
                rows.append([method, budget, steps, times, dice, f"{_range(best)} %" if best else "-"])
    return Table(
        "Validation",
        ["method", "labels", "steps", "validations", "Dice, %", "best after"],
        rows,
        "Dice of the validation volumes on the network's grid, at its best of so many validations: those weights were "
        "tested. Best after: the share of the steps; near 100 %, or with few validations, more steps may help. Choose "
        "the steps by this table, with random alone.",
    )


def _unconverged(results: Results) -> Table:
    stuck = [t for t in results.tested if t.not_converged]
    return Table(
        "Runs that have not converged",
        ["run", "structures"],
        [[t.run.name, ", ".join(t.not_converged)] for t in stuck],
        "Structures with a Dice below 10 % on the very volumes that were trained on.",
    )


def _spread(found: Spread) -> str:
    return (
        "-"
        if math.isnan(found.mean)
        else f"{found.mean:.1f} ({_number(found.over_seeds)}; {_number(found.over_folds)})"
    )


def _noise(found: Noise) -> str:
    return "-" if math.isnan(found.sd) else f"{found.sd:.1f} ({found.runs})"


def _range(values: Sequence[float]) -> str:
    low, high = round(min(values)), round(max(values))
    return str(low) if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1f}"
