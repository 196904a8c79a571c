from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.cluster.hierarchy import is_valid_linkage, linkage
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base import machine
from ufc_monai.base.errors import InputError
from ufc_monai.clustering import reciprocal
from ufc_monai.clustering.clusterers import cut_tree
from ufc_monai.clustering.reciprocal import ward_linkage

Array = NDArray[np.float64]
KINDS = ["random", "blobs", "low rank", "spread", "offset", "line"]


def make(kind: str, n: int, d: int = 6, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, d))
    match kind:
        case "blobs":
            return 9 * rng.normal(size=(7, d))[rng.integers(7, size=n)] + noise
        case "low rank":
            return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 1e-3 * noise
        case "spread":  # nothing that float32 could tell apart within a group
            return 1e3 * rng.normal(size=(3, d))[rng.integers(3, size=n)] + 1e-3 * noise
        case "offset":
            return 1e4 + noise
        case "line":
            return noise[:, :1]
    return noise


def assert_same_heights(tree: Array, expected: Array) -> None:
    np.testing.assert_allclose(tree[:, 2], expected[:, 2], rtol=1e-8, atol=1e-13 * expected[-1, 2])


def merged_clusters(tree: Array) -> list[frozenset[int]]:
    """Rows of the cluster that each merge makes."""
    found = [frozenset([i]) for i in range(len(tree) + 1)]
    for a, b in tree[:, :2].astype(int):
        found.append(found[a] | found[b])
    return found[len(tree) + 1 :]


def assert_is_ward(points: Array, tree: Array) -> None:
    """Each merge, in the order of the tree, is one of two clusters that no pair is nearer than: the definition."""
    assert is_valid_linkage(tree)
    clusters = {i: points[[i]] for i in range(len(points))}
    scale = max(np.ptp(points, axis=0).max(), 1e-300)
    for number, (a, b, height, size) in enumerate(tree, start=len(points)):
        centres = np.array([c.mean(axis=0) for c in clusters.values()]) / scale
        sizes = np.array([len(c) for c in clusters.values()])
        squares = np.square(centres[:, None] - centres).sum(axis=2) * 2 / (1 / sizes[:, None] + 1 / sizes)
        np.fill_diagonal(squares, np.inf)
        keys = list(clusters)
        assert height / scale == pytest.approx(np.sqrt(squares[keys.index(a), keys.index(b)]), rel=1e-8, abs=1e-12)
        assert height / scale == pytest.approx(np.sqrt(squares.min()), rel=1e-8, abs=1e-12)
        clusters[number] = np.concatenate([clusters.pop(a), clusters.pop(b)])
        assert size == len(clusters[number])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3, 50, 700])
def test_equal_to_scipy(kind: str, n: int) -> None:
    points = make(kind, n)
    tree, expected = ward_linkage(torch.from_numpy(points)), linkage(points, "ward")
    assert tree.dtype == np.float64
    assert_same_heights(tree, expected)
    np.testing.assert_array_equal(tree[:, [0, 1, 3]], expected[:, [0, 1, 3]])


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 120), st.integers(1, 9), st.integers(0, 10**6), st.sampled_from(KINDS))
def test_cuts_equal_scipys(n: int, d: int, seed: int, kind: str) -> None:
    points = make(kind, n, d, seed)
    tree, expected = ward_linkage(points), linkage(points, "ward")
    assert_same_heights(tree, expected)
    for k in range(2, min(n, 20), 3):
        assert adjusted_rand_score(cut_tree(tree, k), cut_tree(expected, k)) == 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=2, max_size=24))
def test_ties_and_duplicates_give_one_of_wards_trees(values: list[tuple[int, int]]) -> None:
    points = np.array(values, dtype=np.float64)
    assert_is_ward(points, ward_linkage(points))


@pytest.mark.parametrize("points", [np.eye(128), np.arange(128)[:, None], np.mgrid[:12, :12].reshape(2, -1).T])
def test_many_equal_distances_take_few_rounds(points: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []

    def count(forest: reciprocal._Forest, merge: Any = reciprocal._Forest.merge) -> Any:
        rounds.append(forest.round)
        return merge(forest)

    monkeypatch.setattr(reciprocal._Forest, "merge", count)
    assert_is_ward(points, ward_linkage(points))
    assert len(rounds) <= 20


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300])
def test_constant_features(value: float) -> None:
    tree = ward_linkage(np.full((300, 5), value))
    assert is_valid_linkage(tree)
    assert (tree[:, 2] == 0).all()
    assert tree[-1, 3] == 300


def test_duplicates_merge_first_and_weigh_as_many() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 8))[rng.integers(40, size=400)]
    tree, expected = ward_linkage(points), linkage(points, "ward")
    assert_same_heights(tree, expected)
    assert adjusted_rand_score(cut_tree(tree, 9), cut_tree(expected, 9)) == 1


def test_nearly_equal_rows_that_no_product_tells_apart() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(4, 8))[rng.integers(4, size=600)] + 1e-10 * rng.normal(size=(600, 8))
    tree, expected = ward_linkage(points), linkage(points, "ward")
    np.testing.assert_allclose(tree[:, 2], expected[:, 2], rtol=1e-5)  # the digits that the values have
    assert [*map(len, merged_clusters(tree))] == expected[:, 3].tolist()


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_scale(scale: float) -> None:
    points = make("blobs", 200)
    tree, scaled = ward_linkage(points), ward_linkage(scale * points)
    np.testing.assert_allclose(scaled[:, 2] / scale, tree[:, 2], rtol=1e-8)
    np.testing.assert_array_equal(scaled[:, :2], tree[:, :2])


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_the_rows_does_not_matter(kind: str) -> None:
    points = make(kind, 300)
    order = np.random.default_rng(2).permutation(300)
    tree, permuted = ward_linkage(points), ward_linkage(points[order])
    assert_same_heights(permuted, tree)
    renamed = [frozenset(order[list(c)].tolist()) for c in merged_clusters(permuted)]
    assert renamed == merged_clusters(tree)


def test_rotation_and_translation_do_not_matter() -> None:
    points = make("random", 300)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    tree, moved = ward_linkage(points), ward_linkage(points @ rotation + np.arange(6))
    assert_same_heights(moved, tree)
    np.testing.assert_array_equal(moved[:, :2], tree[:, :2])


@pytest.mark.parametrize("kind", [*KINDS, "grid"])
@pytest.mark.parametrize("block_bytes", [50_000, 1_000_000])
def test_blocks_and_repetition_do_not_matter(kind: str, block_bytes: int) -> None:
    points = make("random", 300).round() if kind == "grid" else make(kind, 300)
    np.testing.assert_array_equal(ward_linkage(points, block_bytes=block_bytes), ward_linkage(points))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_other_types(dtype: torch.dtype) -> None:
    points = torch.from_numpy(5 * make("random", 100)).to(dtype)
    before = points.clone()
    np.testing.assert_array_equal(ward_linkage(points), ward_linkage(points.double().numpy()))
    assert torch.equal(points, before)


def test_reduced_precision_leaves_the_tree_as_it_is() -> None:
    points = make("blobs", 400)
    expected = ward_linkage(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(ward_linkage(points), expected)
    before = torch.get_float32_matmul_precision()
    try:
        for precision, digits in (("high", 10), ("medium", 8)):
            torch.set_float32_matmul_precision(precision)
            assert reciprocal._input_rounding() == 2.0**-digits
            np.testing.assert_array_equal(ward_linkage(points), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 products as a device computes them that rounds what it multiplies to bf16 and adds in float32."""

    def product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.float32:
            left, right = left.bfloat16().float(), right.bfloat16().float()
        return torch.mm(left, right.T, out=out)

    monkeypatch.setattr(reciprocal, "_product", product)
    monkeypatch.setattr(reciprocal, "_input_rounding", lambda: 2.0**-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("in_bf16")
def test_candidates_in_bf16_leave_the_tree_as_it_is(kind: str) -> None:
    points = make(kind, 700)
    expected = linkage(points, "ward")
    tree = ward_linkage(points)
    assert_same_heights(tree, expected)
    np.testing.assert_array_equal(tree[:, [0, 1, 3]], expected[:, [0, 1, 3]])


@pytest.mark.usefixtures("in_bf16")
def test_bound_holds_in_bf16() -> None:
    test_bound_of_a_search_holds_for_all_others("spread", torch.float32)


def test_products_are_short_where_the_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, before = torch.device("cpu"), torch.get_float32_matmul_precision()
    for able, word in ((False, "highest"), (True, "medium")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able})
        with machine.short_products(cpu):
            assert torch.get_float32_matmul_precision() == word
        assert torch.get_float32_matmul_precision() == before == "highest"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bound_of_a_search_holds_for_all_others(kind: str, dtype: torch.dtype) -> None:
    points, _ = reciprocal._standardise(torch.from_numpy(make(kind, 300)))
    size = torch.from_numpy(np.random.default_rng(4).integers(1, 9, size=300).astype(np.float64))
    forest = reciprocal._Forest(points, size, None, None)
    everyone = torch.arange(300)
    candidates, bound = forest._candidates(everyone, everyone, 5, dtype)
    exact = 2 * torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    exact /= 1 / size[:, None] + 1 / size
    exact.scatter_(1, candidates, torch.inf)
    others = exact.fill_diagonal_(torch.inf).amin(dim=1)
    assert (bound <= others).all()
    if kind in ("random", "blobs"):
        assert (bound > 0.99 * others).all()  # and is of use


def test_ring_of_neighbours_is_broken() -> None:
    forest = reciprocal._Forest(torch.eye(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64), None, None)
    forest.nearest = torch.tensor([1, 2, 3, 0])
    forest.distance = torch.tensor([2.0, 2.0, 1.0, 1.5], dtype=torch.float64)
    assert [t.tolist() for t in forest.pairs()] == [[2], [3]]
    forest.distance[3] = 0.5
    assert [t.tolist() for t in forest.pairs()] == [[0], [3]]


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4,), (2, 2, 2)])
def test_shapes_that_are_none(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="2 slices or more"):
        ward_linkage(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite(value: float) -> None:
    points = np.eye(4)
    points[2, 1] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        ward_linkage(points)


def _rank(rank: int, folder: str, points: Array) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(minutes=10)
    )
    try:
        np.save(f"{folder}/{rank}.npy", ward_linkage(points, group=dist.group.WORLD))
    finally:
        dist.destroy_process_group()


def test_a_group_of_one_gives_the_tree_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = make("blobs", 301)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # a group puts its own in the place
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        np.testing.assert_array_equal(ward_linkage(points, group=dist.group.WORLD), ward_linkage(points))
    finally:
        dist.destroy_process_group()


def test_two_processes_give_the_tree_of_one(tmp_path: Path) -> None:
    points = np.concatenate([make("blobs", 301), make("spread", 50)])
    mp: Any = torch.multiprocessing
    mp.spawn(_rank, (str(tmp_path), points), nprocs=2)
    for rank in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"{rank}.npy"), ward_linkage(points))
