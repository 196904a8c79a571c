"""What a study says: its tables, as rows of text, and in plain words; captions stand in the report's templates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from ufc_monai.report.page import rendered
from ufc_monai.study.arms import COVERING, NOT_CENTRED, RANDOM, SHUFFLED
from ufc_monai.study.results import BETWEEN, PRETRAINED, Results
from ufc_monai.study.statistics import Noise, Spread

CONTROLS = (NOT_CENTRED, SHUFFLED)
"""UFC without one of its parts each: does that part do anything?"""
SIGNIFICANT = 0.05
LEAST_PATIENTS = 6
"""With five, no permutation test can fall below 0.05."""
NAMES = {RANDOM: "random initialisation", "simclr": "SimCLR", "ufc": "UFC", "moco": "MoCo v2", "byol": "BYOL"}


class Table(NamedTuple):
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
    arms = [(m, b, runs) for m in results.methods for b in results.budgets if len(runs := results.counted(m, b))]

    def by_arm(row: Callable[[Results, str, str, pd.DataFrame], list[str]]) -> list[list[str]]:
        return [[method, budget, *row(results, method, budget, runs)] for method, budget, runs in arms]

    other = ["method", "labels", "Dice, %", "defined", "HD95", "defined", "pooled Dice, %"]
    validation = ["method", "labels", "steps", "validations", "Dice, %", "best after"]
    stuck = results.runs["not_converged"]
    unconverged = [[str(run), names.replace(BETWEEN, ", ")] for run, names in stuck[stuck != ""].items()]
    return [
        _methods_by_budgets(results),
        _differences(results),
        *_clusterings_by_k(results),
        Table("Dice, HD95, pooled Dice", other, by_arm(_other_measures)),
        Table("Dice by structure", ["Dice, %", "labels", *results.structures], by_arm(_structures)),
        _pretraining(results),
        Table("Validation", validation, by_arm(_validation)),
        Table("Runs that have not converged", ["run", "structures"], unconverged),
    ]


def _methods_by_budgets(results: Results) -> Table:
    rows = []
    for method in results.methods:
        auc = _number(pd.Series(results.probes.get(method, []), dtype=float).mean(), ".3f")
        rows.append([method, *(_cell(results, method, budget) for budget in results.budgets), auc])
    return Table("Dice by methods and labels", ["mean Dice, %", *results.budgets, "probe AUC"], rows)


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
    for arms in comparisons(results):
        for budget in results.budgets:
            if (found := results.difference(*arms, budget)) is None:
                continue
            noise = [_noise(results.noise(method, budget)) for method in arms]
            stuck = [str(len(results.not_converged(method, budget))) for method in arms]
            rows.append([
                " - ".join(arms), budget, f"{found.mean:+.1f}", f"[{found.low:.1f}, {found.high:.1f}]",
                f"{found.p:.3f}", str(found.patients), str(found.repeats), " / ".join(noise), " / ".join(stuck),
            ])  # fmt: skip
    head = ["difference", "labels", "Dice", "95 %", "p", "patients", "repeats", "noise of a run", "not converged"]
    return Table("Paired differences", head, rows)


def _clusterings_by_k(results: Results) -> list[Table]:
    """One table a budget: clusterings by their number of clusters."""
    asked = [text.partition(":")[::2] for text in results.clusterings]
    names, values = list(dict.fromkeys(n for n, _ in asked)), sorted({v for _, v in asked}, key=float)

    def cell(name: str, value: str, budget: str) -> str:
        if (name, value) not in asked:
            return ""
        found = results.clusters.get(f"clusters_{name}_{value}", [])
        note = f" [{sum(found) / len(found):.0f}]" if name == "dbscan" and found else ""
        return _cell(results, f"ufc_{name}_{value}", budget) + note

    return [
        Table(
            f"Clusterings at {budget} labelled volumes",
            ["clusters", *values],
            [[name, *(cell(name, value, budget) for value in values)] for name in names],
        )
        for budget in (results.budgets if asked else ())
    ]


def _other_measures(results: Results, method: str, budget: str, runs: pd.DataFrame) -> list[str]:
    defined = results.measured[results.measured["run"].isin(runs.index)][["dice", "hd95_mm"]].count()
    scores = ("dice", "hd95_mm", "pooled")
    dice, hd95, pooled = (_spread(results.spread(method, budget, runs[score])) for score in scores)
    return [dice, str(defined["dice"]), hd95, f"{defined['hd95_mm']} of {defined['dice']}", pooled]


def _structures(results: Results, method: str, budget: str, _: pd.DataFrame) -> list[str]:
    scores = (results.by_structure[name] for name in results.structures)
    return [_number(results.spread(method, budget, score).mean) for score in scores]


def _pretraining(results: Results) -> Table:
    names = [n for n in PRETRAINED if any(n in run for runs in results.pretrained.values() for run in runs)]
    rows = []
    for method, runs in results.pretrained.items():
        found = pd.DataFrame(runs).reindex(columns=["steps", *names]).astype(float)
        means = (_number(found[name].mean(), ".3g") for name in names)
        rows.append([method, str(len(runs)), _range(found["steps"].dropna()), *means])
    return Table("Pretraining", ["method", "runs", "steps", *(name.replace("_", " ") for name in names)], rows)


def _validation(results: Results, method: str, budget: str, runs: pd.DataFrame) -> list[str]:
    best = (100 * runs["best_step"] / runs["steps"])[runs["validations"] > 0]
    dice = _spread(results.spread(method, budget, runs["validation_dice"]))
    return [_range(runs["steps"]), _range(runs["validations"]), dice, f"{_range(best)} %" if len(best) else "-"]


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


def comparisons(results: Results) -> list[tuple[str, str]]:
    """Pairs of arms that are compared.

    Each arm with random weights and with SimCLR, UFC with its controls, a training with a plainer one from the same
    start, labels that cover with drawn ones.
    """
    drawn = [method for method in results.methods if not method.endswith(COVERING)]
    pairs = [(method, RANDOM) for method in drawn if method != RANDOM]
    pairs += [(method, "simclr") for method in drawn if method not in (RANDOM, "simclr")]
    pairs += [("ufc", control) for control in CONTROLS]
    pairs += [(method, other) for method in drawn for other in drawn if method.startswith(f"{other}+")]
    pairs += [(method, method.removesuffix(COVERING)) for method in results.methods if method not in drawn]
    return [pair for pair in dict.fromkeys(pairs) if {*pair} <= {*results.methods}]


def verdict(results: Results) -> list[str]:
    """A sentence for each comparison, then what has to be known with them."""
    pairs, arms = comparisons(results), list(itertools.product(results.methods, results.budgets))
    counted = {arm: len(results.counted(*arm)) for arm in arms}
    stuck = {arm: results.not_converged(*arm)["not_converged"] for arm in arms}
    noise = [found.sd for found in itertools.starmap(results.noise, arms) if not math.isnan(found.sd)]
    said = rendered(
        "verdict.txt",
        names=NAMES,
        significant=SIGNIFICANT,
        least_patients=LEAST_PATIENTS,
        compared=[
            (
                pair,
                [(b, results.difference(*pair, b), sum(len(stuck[arm, b]) for arm in pair)) for b in results.budgets],
            )
            for pair in pairs
        ],
        noise=noise,
        made=sum(all(counted[arm, budget] for arm in pair) for pair in pairs for budget in results.budgets),
        unlearned=[names.split(BETWEEN) for names in results.runs["not_converged"] if names],
        tested=len(results.runs),
        counted=sum(counted.values()),
        planned=sum(n for *_, n in results.planned),
        failed=results.failed,
    )
    return said.splitlines()
