from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from ufc_monai.clustering.clusterers import Agglomerative, cut_tree
from ufc_monai.clustering.elbow import (
    CurvePoint,
    choose_n_clusters,
    expected_positives,
    farthest_from_chord,
    find_knee,
    fitted_curve,
    mean_within_cluster_distance,
    same_cluster_chance,
    tree_curve,
)


def curve_of(features: NDArray[Any]) -> Callable[[Sequence[int]], Iterable[CurvePoint]]:
    return partial(tree_curve, features, Agglomerative().fit(features).tree_)


KS = list(range(2, 21))


@pytest.mark.parametrize("hinge", [3, 4, 7, 12])
def test_hinge_curve_gives_its_hinge(hinge: int) -> None:
    curve = [max(hinge - k, 0) + 0.05 * (20 - k) for k in KS]
    assert find_knee(KS, curve) == hinge
    assert farthest_from_chord(KS, curve) == hinge


@pytest.mark.parametrize(
    "curve",
    [
        [0.0] * 19,
        [1.0] * 19,
        [1 + 1e-15 * k for k in KS],
        [2.1 - 0.1 * k for k in KS],
        [float(np.sqrt(21 - k)) for k in KS],
        [float(k) for k in KS],
        [1.0] * 18 + [0.0],
    ],
    ids=["zero", "flat", "rounding", "straight", "concave", "rising", "cliff"],
)
def test_curve_without_an_elbow(curve: list[float]) -> None:
    assert find_knee(KS, curve) is None
    assert farthest_from_chord(KS, curve) == 2


def test_short_curves() -> None:
    assert find_knee([2], [1.0]) is None
    assert farthest_from_chord([2], [1.0]) == 2
    assert find_knee([2, 3], [1.0, 0.5]) is None
    assert farthest_from_chord([2, 3, 4], [1.0, 0.5, 0.4]) == 3


def test_planted_blobs_are_counted() -> None:
    rng = np.random.default_rng(0)
    features = 20 * np.eye(6, 8)[np.repeat(np.arange(6), 30)] + rng.normal(size=(180, 8))
    elbow = choose_n_clusters(curve_of(features), 180, k_range=(2, 20))
    assert elbow.n_clusters == 6
    assert "k = 6 is the elbow" in elbow.reason
    assert elbow.ks == tuple(range(2, 21))
    assert elbow.searched == (2, 20)
    assert "k = 6 is the elbow" in elbow.reason


def test_curve_is_that_of_the_cuts() -> None:
    features = np.random.default_rng(1).normal(size=(60, 4))
    tree = Agglomerative().fit(features).tree_
    elbow = choose_n_clusters(curve_of(features), 60, k_range=(3, 8))
    for k, distance in zip(elbow.ks, elbow.distances, strict=True):
        assert distance == pytest.approx(mean_within_cluster_distance(features, cut_tree(tree, k)), rel=1e-12)


@pytest.mark.parametrize("groups", [1, 5, 12])
@pytest.mark.parametrize("batch_size", [12, 48])
def test_one_pass_chooses_as_a_cut_for_each_number_does(groups: int, batch_size: int) -> None:
    rng = np.random.default_rng(groups)
    features = 4 * rng.normal(size=(groups, 6))[rng.integers(groups, size=400)] + rng.normal(size=(400, 6))
    one_pass, cuts = (
        choose_n_clusters(curve, 400, batch_size=batch_size)
        for curve in (
            curve_of(features),
            partial(fitted_curve, features, partial(cut_tree, Agglomerative().fit(features).tree_)),
        )
    )
    assert one_pass.distances == pytest.approx(cuts.distances, rel=1e-12)
    assert replace(one_pass, distances=cuts.distances) == cuts


def test_chord_where_kneed_finds_nothing() -> None:
    elbow = choose_n_clusters(curve_of(np.ones((30, 3))), 30, k_range=(2, 10))
    assert (elbow.n_clusters, elbow.distances[0]) == (2, 0)
    assert "farthest from the chord" in elbow.reason
    assert "kneed finds no elbow" in elbow.reason


def test_search_ends_where_positives_become_few() -> None:
    features = np.random.default_rng(2).normal(size=(300, 4))
    tree = Agglomerative().fit(features).tree_
    elbow = choose_n_clusters(curve_of(features), 300, batch_size=12)
    last = elbow.searched[1]
    assert 3 < last < 60
    chances = [same_cluster_chance(cut_tree(tree, k)) for k in (last, last + 1)]
    assert expected_positives(chances[0], 12) >= 3 > expected_positives(chances[1], 12)
    assert "a batch of 12 gives an anchor fewer than 3 positives" in elbow.reason
    assert choose_n_clusters(curve_of(features), 300, batch_size=12, min_positives=0).searched == (2, 60)


def test_first_number_of_the_range_is_kept_however_small_the_batch() -> None:
    features = np.random.default_rng(3).normal(size=(50, 4))
    assert choose_n_clusters(curve_of(features), 50, k_range=(5, 9), batch_size=2).searched == (5, 5)


@pytest.mark.parametrize(("n", "searched"), [(2, (2, 2)), (3, (2, 2)), (4, (2, 3)), (6, (2, 5))])
def test_few_slices(n: int, searched: tuple[int, int]) -> None:
    features = np.random.default_rng(4).normal(size=(n, 3))
    elbow = choose_n_clusters(curve_of(features), n, batch_size=1000)
    assert elbow.searched == searched
    assert elbow.n_clusters in elbow.ks


def test_range_above_the_number_of_slices() -> None:
    assert choose_n_clusters(curve_of(np.eye(5)), 5, k_range=(10, 20)).searched == (4, 4)


def test_grid_of_an_expensive_clustering_is_coarse() -> None:
    features = np.random.default_rng(4).normal(size=(300, 4))
    tree = Agglomerative().fit(features).tree_
    asked: list[int] = []

    def cluster(k: int) -> NDArray[np.int64]:
        asked.append(k)
        return cut_tree(tree, k)

    curve = partial(fitted_curve, features, cluster)
    elbow = choose_n_clusters(curve, 300, k_range=(2, 60), min_positives=0, most=8)
    assert asked == list(elbow.ks) == sorted(set(asked))
    assert (asked[0], asked[-1]) == (2, 60)
    assert len(asked) <= 8
    assert elbow.n_clusters in asked
    assert ", ".join(map(str, asked)) in elbow.reason
    assert "beyond" not in elbow.reason


def test_mean_within_cluster_distance_by_hand() -> None:
    features = np.array([[0.0, 0.0], [6.0, 8.0], [1.0, 1.0]])
    assert mean_within_cluster_distance(features, np.array([0, 0, 1])) == pytest.approx((5 + 5 + 0) / 3)


@pytest.mark.parametrize(
    ("k", "batch_size", "expected"), [(3, 55, 37.0), (20, 55, 6.4), (100, 55, 2.08), (20, 48, 5.7)]
)
def test_expected_positives_of_equal_clusters(k: int, batch_size: int, expected: float) -> None:
    assert expected_positives(same_cluster_chance(np.tile(np.arange(k), 4)), batch_size) == pytest.approx(expected)


def test_expected_positives_against_a_count() -> None:
    rng = np.random.default_rng(5)
    labels = rng.choice(5, size=200, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    counts = []
    for _ in range(4000):
        views = np.tile(rng.choice(labels, size=12), 2)
        counts.append((views == views[0]).sum() - 1)
    assert np.mean(counts) == pytest.approx(expected_positives(same_cluster_chance(labels), 12), rel=0.03)


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
