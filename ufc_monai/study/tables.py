"""The tables of a study, as rows of text; their captions stand in the report's templates."""

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
    """

    title: str
    head: list[str]
    rows: list[list[str]]


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
    )


def _clusterings_by_k(results: Results) -> list[Table]:
    """One table a budget: clusterings by their number of clusters."""
    asked = [text.partition(":")[::2] for text in results.clusterings]
    if not asked:
        return []
    names, values = list(dict.fromkeys(n for n, _ in asked)), sorted({v for _, v in asked}, key=float)
    tables = []
    for budget in results.budgets:
        rows = [
            [n, *(_clustering_cell(results, n, v, budget) if (n, v) in asked else "" for v in values)] for n in names
        ]
        tables.append(Table(f"Clusterings at {budget} labelled volumes", ["clusters", *values], rows))
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
    )


def _unconverged(results: Results) -> Table:
    stuck = results.runs["not_converged"]
    return Table(
        "Runs that have not converged",
        ["run", "structures"],
        [[str(run), names.replace(BETWEEN, ", ")] for run, names in stuck[stuck != ""].items()],
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
