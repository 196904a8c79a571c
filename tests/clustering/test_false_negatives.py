from __future__ import annotations

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ufc_monai.clustering.false_negatives import count_false_negatives


def counted(present: Any, clusters: Any, positions: Any) -> dict[str, dict[str, float | None]]:
    """The same by a loop over all pairs."""
    pairs = list(combinations(range(len(present)), 2))
    mates = {
        "simclr": lambda i, j: False,
        "glcl": lambda i, j: int(4 * positions[i]) == int(4 * positions[j]),
        "pcl": lambda i, j: abs(positions[i] - positions[j]) < 0.1,
        "ufc": lambda i, j: clusters[i] == clusters[j],
    }
    rows: dict[str, dict[str, float | None]] = {}
    for method, mate in mates.items():
        together: list[bool] = []
        apart: list[bool] = []
        for i, j in pairs:
            alike = bool(present[i].any()) and bool((present[i] == present[j]).all())
            (together if mate(i, j) else apart).append(alike)  # type: ignore[no-untyped-call]
        rows[method] = {
            "pushed_apart": len(apart) / len(pairs) if pairs else None,
            "false_negatives": sum(apart) / len(apart) if apart else None,
            "true_positives": sum(together) / len(together) if together and method in ("pcl", "ufc") else None,
        }
    return rows


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_against_a_loop_over_pairs(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 14))
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    present = np.array([[number & 1, number & 2] for number in numbers]) > 0
    clusters = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    # sixty-fourths, so that no difference is near the threshold
    positions = np.array(data.draw(st.lists(st.integers(0, 63), min_size=n, max_size=n))) / 64
    found = count_false_negatives(present, clusters, positions)
    for method, row in counted(present, clusters, positions).items():
        for name, value in row.items():
            rounded = None if value is None else pytest.approx(value, abs=5.1e-5)
            assert found[method][name] == rounded


def test_clusters_that_are_the_anatomy_have_no_false_negatives() -> None:
    level = np.tile(np.arange(3), 20)
    rows = count_false_negatives(np.eye(3, dtype=bool)[level], level)
    assert rows["ufc"]["false_negatives"] == 0
    assert rows["ufc"]["true_positives"] == 1
    assert rows["simclr"]["false_negatives"] == pytest.approx(19 / 59, abs=1e-4)
    assert rows["simclr"]["true_positives"] is None
    assert set(rows) == {"simclr", "ufc"}


def test_single_clusters_are_simclr() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((50, 3)) > 0.5
    rows = count_false_negatives(present, np.arange(50))
    assert rows["ufc"] == rows["simclr"]


def test_empty_slices_are_not_alike() -> None:
    rows = count_false_negatives(np.zeros((9, 2), dtype=bool), np.zeros(9, dtype=np.int64))
    assert rows["simclr"]["false_negatives"] == 0
    assert rows["ufc"] == {"pushed_apart": 0, "false_negatives": None, "true_positives": 0}


def test_many_slices_make_no_table_of_pairs() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    tracemalloc.start()
    count_false_negatives(rng.random((n, 7)) > 0.5, rng.integers(0, 30, n), rng.random(n))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < n**2 / 8  # one bit a pair
