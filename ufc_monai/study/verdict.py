"""What a study says, in plain words."""

from __future__ import annotations

import itertools
import math

from ufc_monai.study.arms import COVERING, NOT_CENTRED, RANDOM, SHUFFLED
from ufc_monai.study.results import BETWEEN, Results
from ufc_monai.study.statistics import Paired

__all__ = ["REFERENCES", "comparisons", "verdict"]

REFERENCES = (RANDOM, "simclr")
"""What every other arm is compared with."""
CONTROLS = (NOT_CENTRED, SHUFFLED)
"""What UFC itself is compared with: does that which they lack do anything?"""
SIGNIFICANT = 0.05
LEAST_PATIENTS = 6
"""With five, no permutation test can fall below 0.05."""
NAMES = {RANDOM: "random initialisation", "simclr": "SimCLR", "ufc": "UFC", "moco": "MoCo v2", "byol": "BYOL"}


def comparisons(results: Results) -> list[tuple[str, str]]:
    """Pairs of arms: each with random weights and with SimCLR, UFC with its controls, labels that cover with drawn."""
    pairs = [
        (method, reference)
        for i, reference in enumerate(REFERENCES)
        for method in results.methods
        if method not in REFERENCES[: i + 1] and not method.endswith(COVERING)
    ]
    pairs += [("ufc", control) for control in CONTROLS]
    pairs += [(method, method.removesuffix(COVERING)) for method in results.methods if method.endswith(COVERING)]
    return [(one, other) for one, other in pairs if {one, other} <= set(results.methods)]


def verdict(results: Results) -> list[str]:
    """A sentence for each comparison, then what has to be known with them."""
    lines = [_sentence(results, one, other) for one, other in comparisons(results)]
    if not lines:
        lines = ["Nothing to compare: that takes random or simclr and one more method. For the steps see Validation."]
    return lines + _reservations(results)


def _sentence(results: Results, one: str, other: str) -> str:
    parts: list[str] = []
    for budget in results.budgets:
        found = results.difference(one, other, budget)
        words = _judged(found, one, other, _at(budget))
        stuck = len(results.not_converged(one, budget)) + len(results.not_converged(other, budget))
        if stuck and found is not None:
            words += f" ({stuck} of these runs did not converge, so training may have been too short)"
        parts.append(words)
    return f"{_name(one)} and {_name(other)}: " + "; ".join(parts) + "."


def _judged(found: Paired | None, one: str, other: str, at: str) -> str:
    if found is None:
        return f"nothing to compare {at}"
    figures = f"{found.mean:+.1f} [{found.low:.1f}, {found.high:.1f}] Dice"
    if found.patients < LEAST_PATIENTS:
        return f"not measurable {at} with {found.patients} test patients ({figures}; it takes {LEAST_PATIENTS})"
    clear = found.p < SIGNIFICANT and (found.low > 0 or found.high < 0)
    if not clear:
        return f"no difference measured {at} ({figures})"
    if found.repeats == 1:
        return f"{figures} {at} in a single repeat, which cannot be told from the noise of initialisation"
    better, worse = (one, other) if found.mean > 0 else (other, one)
    low, high = sorted((abs(found.low), abs(found.high)))
    return f"{_name(better)} beats {_name(worse)} {at} by {abs(found.mean):.1f} [{low:.1f}, {high:.1f}] Dice"


def _reservations(results: Results) -> list[str]:
    lines = []
    arms = list(itertools.product(results.methods, results.budgets))
    known = [noise.sd for noise in itertools.starmap(results.noise, arms) if not math.isnan(noise.sd)]
    if known:
        lines.append(
            f"Noise of initialisation: runs with the same labels and other seeds differ by {min(known):.1f} to "
            f"{max(known):.1f} points (standard deviation). A difference of single runs that is no larger means "
            "nothing."
        )
    else:
        lines.append("The noise of initialisation was not measured: take --init_seeds 3, or --draws with --seeds 2.")
    tested = {arm: len(results.counted(*arm)) for arm in arms}
    pairs = [(one, other, b) for one, other in comparisons(results) for b in results.budgets]
    made = sum(tested[one, b] > 0 and tested[other, b] > 0 for one, other, b in pairs)
    if made > 1:
        lines.append(f"{made} comparisons were made; about one in twenty looks like a difference by chance alone.")
    counted, planned = sum(tested.values()), sum(n for *_, n in results.planned)
    stuck = [names for arm in arms for names in results.not_converged(*arm)["not_converged"]]
    if stuck:
        names = ", ".join(sorted({name for names in stuck for name in names.split(BETWEEN)}))
        lines.append(
            f"NOT CONVERGED: {len(stuck)} of {counted} runs have not learned {names} (Dice below 10 % even on the "
            "training volumes). Train longer before you compare anything."
        )
    if planned > counted or results.failed:
        lines.append(f"Incomplete: {planned - counted} of {planned} runs are missing.")
    return lines


def _at(budget: str) -> str:
    return f"at {budget} of the labels" if "%" in budget else f"at {budget} labelled volume{'s' * (budget != '1')}"


def _name(method: str) -> str:
    return NAMES.get(method, method)
