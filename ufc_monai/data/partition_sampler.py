"""Batches in which every part of the body is equally often."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ufc_monai.base.errors import InputError
from ufc_monai.data.slices import SliceDataset


class PartitionSampler(Sampler[int]):
    """Volume by volume, in random order, one random slice from each partition of its axis (Chaitanya et al. 2020).

    An epoch is as long as the data set. Volumes with fewer slices than partitions are passed over.

    Args:
        dataset: slices of volumes.
        partitions: equal parts of a volume's axis.
        generator: of the order and the slices.

    Raises:
        InputError: if ``partitions`` is no such number, or no volume has a slice in every partition.
    """

    def __init__(self, dataset: SliceDataset, partitions: int, generator: torch.Generator) -> None:
        if not isinstance(partitions, int) or partitions < 2:
            raise InputError(f"partitions must be a whole number of 2 or more, got {partitions!r}.")
        cells: dict[str, list[list[int]]] = defaultdict(lambda: [[] for _ in range(partitions)])
        for index, item in enumerate(dataset.items):
            cells[item["id"].rpartition("#")[0]][int(item["position"] * partitions)].append(index)
        self.volumes = [volume for volume in cells.values() if all(volume)]
        if not self.volumes:
            raise InputError(
                f"no volume of this data set has a slice in each of {partitions} partitions of its axis: take a method "
                "that needs no positions, such as simclr or ufc, or lower partitions."
            )
        self.generator = generator
        self._length = len(dataset) // partitions * partitions

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        left = self._length
        while left:
            for volume in self._random(len(self.volumes)):
                for cell in self.volumes[volume]:
                    yield cell[int(torch.randint(len(cell), (), generator=self.generator))]
                left -= len(self.volumes[volume])
                if not left:
                    return

    def _random(self, n: int) -> list[int]:
        order: list[int] = torch.randperm(n, generator=self.generator).tolist()
        return order
