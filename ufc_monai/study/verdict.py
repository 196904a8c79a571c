"""What a study says, in plain words."""

from __future__ import annotations

import itertools
import math

from ufc_monai.study.arms import COVERING, NOT_CENTRED, RANDOM, SHUFFLED
from ufc_monai.study.results import BETWEEN, Results
from ufc_monai.study.statistics import Paired

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
    lines = [_sentence(results, one, other) for one, other in comparisons(results)]
    if not lines:
        lines = ["Nothing to compare: that takes random or simclr and one more method. For the steps see Validation."]
    return lines + _reservations(results)


def _sentence(results: Results, one: str, other: str) -> str:
    parts: list[str] = []
    for budget in results.budgets:
        at = f"at {budget} of the labels" if "%" in budget else f"at {budget} labelled volume{'s' * (budget != '1')}"
        found = results.difference(one, other, budget)
        words = _judged(found, _name(one), _name(other), at) if found else f"nothing to compare {at}"
        stuck = len(results.not_converged(one, budget)) + len(results.not_converged(other, budget))
        if stuck and found:
            words += f" ({stuck} of these runs did not converge, so training may have been too short)"
        parts.append(words)
    return f"{_name(one)} and {_name(other)}: {'; '.join(parts)}."


def _judged(found: Paired, one: str, other: str, at: str) -> str:
    figures = f"{found.mean:+.1f} [{found.low:.1f}, {found.high:.1f}] Dice"
    if found.patients < LEAST_PATIENTS:
        return f"not measurable {at} with {found.patients} test patients ({figures}; it takes {LEAST_PATIENTS})"
    if found.p >= SIGNIFICANT or found.low <= 0 <= found.high:
        return f"no difference measured {at} ({figures})"
    if found.repeats == 1:
        return f"{figures} {at} in a single repeat, which cannot be told from the noise of initialisation"
    better, worse = (one, other) if found.mean > 0 else (other, one)
    low, high = sorted((abs(found.low), abs(found.high)))
    return f"{better} beats {worse} {at} by {abs(found.mean):.1f} [{low:.1f}, {high:.1f}] Dice"


def _reservations(results: Results) -> list[str]:
    arms = list(itertools.product(results.methods, results.budgets))
    known = [noise.sd for noise in itertools.starmap(results.noise, arms) if not math.isnan(noise.sd)]
    lines = ["The noise of initialisation was not measured: take --init_seeds 3, or --draws with --seeds 2."]
    if known:
        lines = [
            f"Noise of initialisation: runs with the same labels and other seeds differ by {min(known):.1f} to "
            f"{max(known):.1f} points (standard deviation). A difference of single runs that is no larger means "
            "nothing."
        ]
    pairs = itertools.product(comparisons(results), results.budgets)
    made = sum(all(len(results.counted(arm, budget)) for arm in pair) for pair, budget in pairs)
    if made > 1:
        lines.append(f"{made} comparisons were made; about one in twenty looks like a difference by chance alone.")
    counted, planned = sum(len(results.counted(*arm)) for arm in arms), sum(n for *_, n in results.planned)
    stuck = [names.split(BETWEEN) for arm in arms for names in results.not_converged(*arm)["not_converged"]]
    if stuck:
        lines.append(
            f"NOT CONVERGED: {len(stuck)} of {counted} runs have not learned "
            f"{', '.join(sorted({*itertools.chain(*stuck)}))} (Dice below 10 % even on the training volumes). Train "
            "longer before you compare anything."
        )
    if planned > counted or results.failed:
        lines.append(f"Incomplete: {planned - counted} of {planned} runs are missing.")
    return lines


def _name(method: str) -> str:
    return NAMES.get(method, method)
