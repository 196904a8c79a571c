"""What a study says in plain words, which stand in the report's template ``verdict.txt``."""

from __future__ import annotations

import itertools
import math

from ufc_monai.report.page import rendered
from ufc_monai.study.arms import COVERING, NOT_CENTRED, RANDOM, SHUFFLED
from ufc_monai.study.results import BETWEEN, Results

CONTROLS = (NOT_CENTRED, SHUFFLED)
"""UFC without one of its parts each: does that part do anything?"""
SIGNIFICANT = 0.05
LEAST_PATIENTS = 6
"""With five, no permutation test can fall below 0.05."""
NAMES = {RANDOM: "random initialisation", "simclr": "SimCLR", "ufc": "UFC", "moco": "MoCo v2", "byol": "BYOL"}


def comparisons(results: Results) -> list[tuple[str, str]]:
    """Pairs of arms: each with random weights and with SimCLR, UFC with its controls, labels that cover with drawn."""
    drawn = [method for method in results.methods if not method.endswith(COVERING)]
    pairs = [(method, RANDOM) for method in drawn if method != RANDOM]
    pairs += [(method, "simclr") for method in drawn if method not in (RANDOM, "simclr")]
    pairs += [("ufc", control) for control in CONTROLS]
    pairs += [(method, method.removesuffix(COVERING)) for method in results.methods if method not in drawn]
    return [pair for pair in pairs if {*pair} <= {*results.methods}]


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
