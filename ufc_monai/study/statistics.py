"""The statistics of a study: arrays in, numbers out.

The unit is the test patient. Arms are compared within a patient and a repeat (a seed with its label draw), where
everything but the pretraining is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

RESAMPLES = 9999
"""Of bootstrap and permutation test; up to that many permutations are all tried."""
LEVEL = 0.95


class Spread(NamedTuple):
    """Mean and spread of one arm at one budget.

    Attributes:
        mean: over repeats, then over folds.
        over_seeds: standard deviation between repeats, each the mean of its folds; NaN with one repeat.
        over_folds: standard deviation between folds, each the mean of its repeats; NaN with one fold.
        runs: number of runs behind it.
    """

    mean: float
    over_seeds: float
    over_folds: float
    runs: int


class Paired(NamedTuple):
    """A paired difference of two arms at one budget.

    Attributes:
        mean: over repeats and patients.
        low: lower end of the bootstrap's 95 % interval.
        high: its upper end.
        p: of the permutation test, two-sided.
        patients: test patients that both arms have.
        repeats: repeats that both arms have.
    """

    mean: float
    low: float
    high: float
    p: float
    patients: int
    repeats: int


class Noise(NamedTuple):
    """Between runs that differ only in the seed.

    Attributes:
        sd: pooled standard deviation; NaN if nothing was repeated.
        runs: number of runs behind it.
    """

    sd: float
    runs: int


def spread(scores: NDArray[np.float64]) -> Spread:
    """Mean and spread of one arm's scores.

    Args:
        scores: (folds, repeats), NaN where a run is missing.

    Example:
        >>> spread(np.array([[1.0, 3.0], [5.0, 7.0]]))
        Spread(mean=4.0, over_seeds=1.4142135623730951, over_folds=2.8284271247461903, runs=4)
    """
    held = _without_empty(scores)
    if not held.size:
        return Spread(math.nan, math.nan, math.nan, 0)
    folds, repeats = np.nanmean(held, axis=1), np.nanmean(held, axis=0)
    over_seeds, over_folds = (float(v.std(ddof=1)) if len(v) > 1 else math.nan for v in (repeats, folds))
    return Spread(float(folds.mean()), over_seeds, over_folds, int((~np.isnan(held)).sum()))


def paired_difference(differences: NDArray[np.float64], seed: int = 0) -> Paired | None:
    """Judge a paired difference.

    The interval is a percentile bootstrap that draws patients and repeats anew at once (Owen 2007, the pigeonhole
    bootstrap), since two runs on the same patients, or two patients of one run, are not independent. With one repeat
    only patients are drawn, and the interval knows nothing of the noise of initialisation. The test flips the sign of
    each patient's mean difference, as swapping the two arms would.

    Args:
        differences: (repeats, patients), NaN where a pair is missing.
        seed: of the resampling.

    Returns:
        The judgement, or ``None`` if there is no pair.
    """
    held = _without_empty(differences)
    if not held.size:
        return None
    repeats, patients = held.shape
    chance = {"n_resamples": RESAMPLES, "rng": np.random.default_rng(seed)}
    by_patient = (np.nanmean(held, axis=0),)
    p = permutation_test(by_patient, np.mean, permutation_type="samples", **chance).pvalue if patients > 1 else 1.0
    return Paired(float(np.nanmean(held)), *interval(held, seed), float(p), patients, repeats)


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The bootstrap's 95 % interval of a mean, as in :func:`paired_difference`.

    Args:
        values: (repeats, patients), NaN where one is missing, but not all of them.
        seed: of the resampling.
    """
    held, generator = _without_empty(values), np.random.default_rng(seed)
    # how often each repeat and each patient was drawn, (resamples, n); a pair weighs the product of the two
    by_repeat, by_patient = (generator.multinomial(n, np.full(n, 1 / n), RESAMPLES) for n in held.shape)
    parts = np.nan_to_num(held), ~np.isnan(held) * 1.0
    total, weight = (((by_repeat @ part) * by_patient).sum(axis=1) for part in parts)
    means = total[weight > 0] / weight[weight > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def noise_within(groups: Iterable[NDArray[np.float64]]) -> Noise:
    """The pooled standard deviation within groups; groups of one tell nothing.

    Example:
        >>> noise_within([np.array([1.0, 3.0]), np.array([10.0, 12.0]), np.array([7.0])])
        Noise(sd=1.4142135623730951, runs=4)
    """
    several = [group for group in groups if len(group) > 1]
    runs = sum(map(len, several))
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return Noise(math.sqrt(squares / (runs - len(several))) if several else math.nan, runs)


def _without_empty(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without rows and columns of nothing but NaN."""
    held = values[~np.isnan(values).all(axis=1)]
    return held[:, ~np.isnan(held).all(axis=0)]
