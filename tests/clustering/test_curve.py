from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage

from ufc_monai.clustering import cut_tree, mean_within_cluster_distance
from ufc_monai.clustering.curve import within_cluster_distances
from ufc_monai.errors import InputError


@pytest.mark.parametrize("method", ["ward", "single"])
def test_equals_the_distance_of_each_cut(method: str) -> None:
    points = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
    tree = linkage(points, method)  # single linkage: a chain
    curve = within_cluster_distances(points, tree, range(1, 91))
    expected = [mean_within_cluster_distance(points, cut_tree(tree, k)) for k in range(1, 91)]
    np.testing.assert_allclose(curve, expected, rtol=1e-12, atol=1e-14)
    assert min(curve) >= 0


def test_any_order_of_any_numbers() -> None:
    points = np.random.default_rng(1).normal(size=(30, 2))
    tree = linkage(points, "ward")
    curve = within_cluster_distances(points, tree, range(1, 31))
    assert within_cluster_distances(points, tree, [7, 2, 30, 2]) == [curve[6], curve[1], curve[29], curve[1]]
    assert within_cluster_distances(points, tree, []) == []


@pytest.mark.parametrize("k", [0, 31])
def test_impossible_numbers(k: int) -> None:
    points = np.random.default_rng(2).normal(size=(30, 2))
    with pytest.raises(InputError, match="must be 1 to 30 for 30 slices"):
        within_cluster_distances(points, linkage(points, "ward"), [2, k])
