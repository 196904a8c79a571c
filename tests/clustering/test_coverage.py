"""Greedy facility location against the definition and the best set."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufc_monai.clustering.coverage import choose_volumes, cluster_histograms, covering_order
from ufc_monai.clustering.pseudo_labels import PseudoLabels


def covered(histograms: np.ndarray, chosen: tuple[int, ...] | list[int]) -> float:
    """The definition, in loops."""
    total = 0.0
    for u in histograms:
        total += max(sum(min(a, b) for a, b in zip(u, histograms[v], strict=True)) for v in chosen)
    return total / len(histograms)


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 99))
def test_greedy_is_near_the_best_set(n: int, k: int, seed: int) -> None:
    histograms = np.random.default_rng(seed).dirichlet(np.full(k, 0.3), size=n)
    budget = min(3, n)
    found = choose_volumes(histograms, budget, draws=3)
    assert len(set(found.chosen)) == budget
    for i in range(budget):
        assert math.isclose(found.covered[i], covered(histograms, found.chosen[: i + 1]), abs_tol=1e-12)
        best = max(covered(histograms, chosen) for chosen in itertools.combinations(range(n), i + 1))
        assert found.covered[i] >= (1 - 1 / math.e) * best - 1e-12
        if i == 0:
            assert math.isclose(found.covered[0], best)
    assert np.all(np.diff(found.covered) >= -1e-12)


def test_labelled_volumes_cover_from_the_start() -> None:
    histograms = np.array([[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.1, 0.9]])
    assert choose_volumes(histograms, 1).chosen == [1]
    assert choose_volumes(histograms, 3, labelled=[1]).chosen == [3, 2, 0]


def test_equals_go_to_the_first_and_chance_is_worse() -> None:
    kinds = np.eye(4)
    histograms = kinds[[0, 0, 0, 0, 0, 0, 1, 1, 2, 3]]
    found = choose_volumes(histograms, 4)
    assert found.chosen == [0, 6, 8, 9]
    assert found.covered[-1] == pytest.approx(1)
    assert found.random[-1] < 0.95


def test_histograms_are_shares() -> None:
    assert cluster_histograms([[0, 0, 2, 2], [1]], 3).tolist() == [[0.5, 0, 0.5], [0, 1, 0]]


@pytest.mark.parametrize("budget", [0, 3])
def test_a_budget_that_there_is_not(budget: int) -> None:
    with pytest.raises(ValueError, match="expected a budget of 1 to 2"):
        choose_volumes(np.eye(3), budget, labelled=[0])


def test_an_order_covers_all_images_by_those_that_are_asked_for() -> None:
    labels = PseudoLabels({"a": [0, 0, 0], "b": [0, 0, 1], "c": [2, 2, 2], "d": [0, 1, 1]}, 3, {})
    assert covering_order(labels, ["d", "c", "b", "a"]) == ["b", "c", "a", "d"]
    assert covering_order(labels, ["c", "a"]) == ["a", "c"]
