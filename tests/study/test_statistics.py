from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ufc_monai.study import statistics
from ufc_monai.study.statistics import noise_within, paired_difference, spread

NAN = math.nan


def test_spread_over_seeds_and_folds_apart() -> None:
    """Folds differ by 10, repeats by 2: each standard deviation sees its own."""
    scores = np.array([[0.0, 2.0, 4.0], [10.0, 12.0, 14.0]])
    found = spread(scores)
    assert (found.mean, found.over_seeds, found.runs) == (7.0, 2.0, 6)
    assert found.over_folds == pytest.approx(math.sqrt(50))


def test_spread_with_holes() -> None:
    found = spread(np.array([[1.0, NAN], [NAN, NAN]]))
    assert (found.mean, found.runs) == (1.0, 1)
    assert math.isnan(found.over_seeds)
    assert math.isnan(found.over_folds)
    assert spread(np.array([[NAN]])).runs == 0


def test_a_constant_difference_is_certain() -> None:
    found = paired_difference(np.full((3, 8), 2.5))
    assert found is not None
    assert (found.mean, found.low, found.high, found.patients, found.repeats) == (2.5, 2.5, 2.5, 8, 3)
    assert found.p == pytest.approx(2 / 2**8)


def test_p_is_that_of_all_sign_flips() -> None:
    values = np.random.default_rng(0).normal(0.4, 1, 9)
    flipped = [abs(np.mean(values * signs)) for signs in itertools.product([1, -1], repeat=9)]
    found = paired_difference(values[None])
    assert found is not None
    assert found.p == pytest.approx(np.mean(np.array(flipped) >= abs(values.mean()) - 1e-12))


def test_one_repeat_is_scipys_bootstrap_over_patients() -> None:
    values = np.random.default_rng(1).normal(1, 2, 24)
    found = paired_difference(values[None])
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(5)).confidence_interval
    assert found is not None
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.1)


def test_repeats_count_as_a_source_of_chance() -> None:
    """Eight patients agree to the digit that repeats differ: the interval spans the repeats."""
    found = paired_difference(np.repeat([[-3.0], [0.0], [6.0]], 8, axis=1))
    assert found is not None
    assert found.mean == 1.0
    assert found.low == -3
    assert found.high == 6


def test_slow_pigeonhole_bootstrap() -> None:
    generator = np.random.default_rng(2)
    held = generator.normal(1, 1, (4, 6)) + generator.normal(0, 1, (4, 1))
    held[0, 0] = NAN
    means = []
    for _ in range(4000):
        rows, columns = generator.integers(4, size=4), generator.integers(6, size=6)
        means.append(np.nanmean(held[np.ix_(rows, columns)]))
    found = paired_difference(held)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.12)


def test_the_interval_holds_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no true difference, intervals of 20 patients miss 0 about one time in twenty."""
    monkeypatch.setattr(statistics, "RESAMPLES", 499)
    generator = np.random.default_rng(3)
    found = [paired_difference(generator.normal(0, 1, (1, 20)), seed=i) for i in range(100)]
    missed = sum(f.low > 0 or f.high < 0 for f in found if f)
    assert 1 <= missed <= 15


def test_nothing_to_pair() -> None:
    assert paired_difference(np.full((2, 3), NAN)) is None


def test_noise_pools_within_groups() -> None:
    groups = [np.array([1.0, 2.0, 3.0]), np.array([20.0, 24.0]), np.array([5.0])]
    found = noise_within(groups)
    assert found.runs == 5
    assert found.sd == pytest.approx(math.sqrt((2 * 1 + 1 * 8) / 3))
    assert math.isnan(noise_within([np.array([1.0])]).sd)
