from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from ufc_monai.clustering.curve import fitted_curve, tree_curve
from ufc_monai.clustering.tree import cut_tree


@pytest.mark.parametrize("method", ["ward", "single"])
def test_equals_the_figures_of_each_cut(method: str) -> None:
    points = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
    tree = linkage(points, method)  # single linkage: a chain
    curve = np.array(list(tree_curve(points, tree, range(1, 91))))
    expected = np.array(list(fitted_curve(points, partial(cut_tree, tree), range(1, 91))))
    np.testing.assert_allclose(curve, expected, rtol=1e-12, atol=1e-14)
    assert curve.min() >= 0


def test_any_rising_numbers() -> None:
    points = np.random.default_rng(1).normal(size=(30, 2))
    tree = linkage(points, "ward")
    curve = list(tree_curve(points, tree, range(1, 31)))
    assert list(tree_curve(points, tree, [2, 7, 30])) == [curve[1], curve[6], curve[29]]
    assert list(tree_curve(points, tree, [])) == []


@pytest.mark.parametrize("ks", [[0, 2], [2, 31], [3, 2], [2, 2]])
def test_impossible_numbers(ks: list[int]) -> None:
    points = np.random.default_rng(2).normal(size=(30, 2))
    with pytest.raises(ValueError, match="must rise from 1 or more to 30 or less"):
        next(tree_curve(points, linkage(points, "ward"), ks))
