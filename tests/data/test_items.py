"""Columns of slices are the dictionaries that they stand for, and small."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ufc_monai.data.items import Items, JoinedItems, VolumeItems
from ufc_monai.data.store import StoreEntry, write_entry

SETS: dict[str, list[dict[str, Any]]] = {
    "of a volume": [{"id": f"a/b.nii#{i}", "patient": "p", "position": (i + 0.5) / 7} for i in range(7)],
    "of a picture": [{"id": "a.png#0", "patient": "a.png", "position": 0.5}],
    "numbered from 1": [{"id": f"a#{i}"} for i in range(1, 4)],
    "one number twice": [{"id": f"a#{i}", "n": 1} for i in (0, 1, 1)],
    "a name with the mark": [{"id": f"a#0#{i}"} for i in range(3)],
    "text that differs": [{"id": f"a#{i}", "site": site} for i, site in enumerate("xyx")],
    "without keys": [{}, {}],
}


def check_same(items: Items, expected: list[dict[str, Any]]) -> None:
    assert len(items) == len(expected)
    assert list(items) == expected == [items[i] for i in range(len(items))]
    assert items[-1] == expected[-1]
    for key in expected[0]:
        column = items.column(key)
        assert column.tolist() == [item[key] for item in expected]
        assert column.dtype.kind in "fiO"
    for index in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            items[index]


@pytest.mark.parametrize("name", SETS)
def test_the_columns_of_a_volume_are_its_dictionaries(name: str, tmp_path: Path) -> None:
    expected = SETS[name]
    check_same(VolumeItems.of(expected), expected)
    pixels = np.zeros((len(expected), 1, 2, 2), dtype=np.uint8)
    check_same(write_entry(tmp_path, expected, {"image": pixels}).items, expected)


def test_volumes_one_behind_the_other(tmp_path: Path) -> None:
    rng = random.Random(0)
    volumes = [[{"id": f"{v}#{i}", "position": i / 9} for i in range(rng.randint(1, 9))] for v in range(12)]
    joined = JoinedItems([VolumeItems.of(items) for items in volumes])
    check_same(joined, [item for items in volumes for item in items])
    assert [joined.place(i) for i in range(len(joined))] == [
        (v, i) for v, x in enumerate(volumes) for i in range(len(x))
    ]


def test_a_slice_of_an_open_store_takes_few_bytes(tmp_path: Path) -> None:
    n, pixels = 2000, np.zeros((2000, 1, 1, 1), dtype=np.uint8)
    items = [{"id": f"imagesTr/patient.nii.gz#{i}", "patient": "p", "position": (i + 0.5) / n} for i in range(n)]
    write_entry(tmp_path, items, {"image": pixels, "label": pixels})
    tracemalloc.start()
    try:
        entry = StoreEntry(tmp_path)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(entry) == n
    assert taken < 64 * n
