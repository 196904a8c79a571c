"""The statistics of a study: arrays in, numbers out.

The unit is the test patient. Arms are compared within a patient and a repeat (a seed with its label draw), where
everything but the pretraining is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import permutation_test

RESAMPLES = 9999
"""Of bootstrap and permutation test; up to that many permutations are all gone through."""
LEVEL = 0.95


@dataclass(frozen=True)
class Spread:
    """Mean and spread of one arm at one budget.

    Attributes:
        mean: over repeats, then over folds.
        over_seeds: standard deviation between repeats, each the mean of its folds; NaN with one repeat.
        over_folds: standard deviation between folds, each the mean of its repeats; NaN with one fold.
        runs: how many runs stand behind it.
    """

    mean: float
    over_seeds: float
    over_folds: float
    runs: int


@dataclass(frozen=True)
class Paired:
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


@dataclass(frozen=True)
class Noise:
    """Between runs that differ in nothing but the seed.

    Attributes:
        sd: pooled standard deviation; NaN if nothing was repeated.
        runs: how many runs it is taken from.
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
    return Spread(float(folds.mean()), _sd(repeats), _sd(folds), int((~np.isnan(held)).sum()))


def paired_difference(differences: NDArray[np.float64], seed: int = 0) -> Paired | None:
    """Judge a paired difference.

    The interval is a percentile bootstrap that draws patients and repeats anew at once (Owen 2007, the pigeonhole
    bootstrap), for two runs on the same patients, or two patients of one run, are not independent. With one repeat only
    patients are drawn, and the interval knows nothing of the noise of initialisation. The test flips the sign of each
    patient's mean difference.

    Args:
        differences: (repeats, patients), NaN where a pair is missing.
        seed: of the resampling.

    Returns:
        The judgement, or ``None`` if there is no pair.
    """
    held = _without_empty(differences)
    if not held.size:
        return None
    low, high = interval(held, seed)
    p = _sign_flip_p(np.nanmean(held, axis=0), seed)
    return Paired(float(np.nanmean(held)), low, high, p, held.shape[1], held.shape[0])


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """The bootstrap's 95 % interval of a mean, as in :func:`paired_difference`.

    Args:
        values: (repeats, patients), NaN where one is missing, but not all of them.
        seed: of the resampling.
    """
    means = _resampled_means(_without_empty(values), np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def noise_within(groups: Iterable[NDArray[np.float64]]) -> Noise:
    """The pooled standard deviation within groups; groups of one tell nothing.

    Example:
        >>> noise_within([np.array([1.0, 3.0]), np.array([10.0, 12.0]), np.array([7.0])])
        Noise(sd=1.4142135623730951, runs=4)
    """
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    if not freedom:
        return Noise(math.nan, 0)
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in several)
    return Noise(math.sqrt(squares / freedom), sum(len(group) for group in several))


def _without_empty(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without rows and columns that hold nothing but NaN."""
    held = values[~np.isnan(values).all(axis=1)]
    return held[:, ~np.isnan(held).all(axis=0)]


def _resampled_means(held: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Means over resampled repeats and patients, each pair weighing the product of how often both were drawn."""
    repeats, patients = held.shape
    # (B, repeats) and (B, patients): how often each was drawn
    by_repeat = generator.multinomial(repeats, np.full(repeats, 1 / repeats), RESAMPLES)
    by_patient = generator.multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
    there = ~np.isnan(held)
    total, weight = (((by_repeat @ values) * by_patient).sum(axis=1) for values in (np.nan_to_num(held), there * 1.0))
    return np.asarray(total[weight > 0] / weight[weight > 0])


def _sign_flip_p(differences: NDArray[np.float64], seed: int) -> float:
    """Two-sided p of a mean of 0; swapping a patient's two arms flips a sign."""
    if len(differences) < 2:
        return 1.0
    pairs = (differences, np.zeros_like(differences))
    return float(
        permutation_test(
            pairs,
            lambda a, b, axis: (a - b).mean(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=RESAMPLES,
            rng=np.random.default_rng(seed),
        ).pvalue
    )


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
