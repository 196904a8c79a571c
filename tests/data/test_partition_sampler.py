from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ufc_monai.base.errors import InputError
from ufc_monai.data.items import JoinedItems, VolumeItems
from ufc_monai.data.samplers import PartitionSampler


def slices(*sizes: int) -> Any:
    items = [
        VolumeItems.of([{"id": f"v{v}#{i}", "position": (i + 0.5) / n} for i in range(n)]) for v, n in enumerate(sizes)
    ]

    class Slices(SimpleNamespace):
        def __len__(self) -> int:
            return sum(sizes)

    return Slices(items=JoinedItems(items), entries=items)


def draw(dataset: Any, partitions: int = 4, seed: int = 0) -> list[int]:
    return list(PartitionSampler(dataset, partitions, torch.Generator().manual_seed(seed)))


def test_one_slice_of_each_partition_volume_by_volume() -> None:
    dataset = slices(8, 20, 12)
    order = draw(dataset)
    assert len(order) == 40
    volumes = []
    for four in zip(*[iter(order)] * 4, strict=True):
        items = [dataset.items[i] for i in four]
        assert [int(item["position"] * 4) for item in items] == [0, 1, 2, 3]
        (volume,) = {item["id"][:2] for item in items}
        volumes.append(volume)
    # every volume once before any volume twice
    assert all(len(set(volumes[i : i + 3])) == 3 for i in range(0, 9, 3))


def test_an_epoch_is_as_long_as_the_data_set() -> None:
    sampler = PartitionSampler(slices(9, 5), 4, torch.Generator())
    assert len(sampler) == len(list(sampler)) == 12


def test_the_order_hangs_on_the_generator_alone() -> None:
    dataset = slices(8, 20, 12)
    assert draw(dataset) == draw(dataset)
    assert draw(dataset) != draw(dataset, seed=1)


def test_short_volumes_are_passed_over() -> None:
    assert min(draw(slices(3, 16))) == 3
    with pytest.raises(InputError, match="no volume of this data set has a slice in each of 4 partitions"):
        draw(slices(3, 2))


def test_the_columns_give_the_order_of_lists() -> None:
    dataset, generator = slices(8, 3, 23, 12, 5), torch.Generator().manual_seed(7)
    cells: dict[str, list[list[int]]] = {}
    for index, item in enumerate(dataset.items):
        of_volume = cells.setdefault(item["id"].partition("#")[0], [[] for _ in range(4)])
        of_volume[int(item["position"] * 4)].append(index)
    volumes = [volume for volume in cells.values() if all(volume)]
    expected: list[int] = []
    while len(expected) < 48:
        for i in torch.randperm(len(volumes), generator=generator).tolist():
            expected += [cell[int(torch.randint(len(cell), (), generator=generator))] for cell in volumes[i]]
    assert draw(dataset, seed=7) == expected[:48]
