"""The order in which slices are drawn: in pairs that are mixed with each other, or one from each part of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from ufc_monai.base.errors import InputError
from ufc_monai.data.slices import SliceDataset


class PartnerSampler(Sampler[int]):
    """Slices drawn by weight, each followed by a partner to be mixed with (``MixSlices`` mixes neighbours).

    Args:
        weights: of the slices, (N,).
        num_samples: how many make an epoch.
        generator: of the order.
        partner_weights: of the slices as partners, (N,); those of ``weights`` where none is above 0. It may be set anew
            between epochs.
    """

    def __init__(
        self, weights: Tensor, num_samples: int, generator: torch.Generator, partner_weights: Tensor | None = None
    ) -> None:
        self.weights = weights
        self.partner_weights = weights if partner_weights is None else partner_weights
        self.num_samples = num_samples
        self.generator = generator

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        return islice(self._endless(), self.num_samples)

    def _endless(self) -> Iterator[int]:
        partners = self.partner_weights if self.partner_weights.any() else self.weights
        ends, ends_of_partners = (weights.double().cumsum(0) for weights in (self.weights, partners))
        while True:
            one = self._drawn(ends)
            yield one
            yield self._partner(one, ends_of_partners)

    def _partner(self, one: int, ends: Tensor) -> int:
        return self._drawn(ends)

    def _drawn(self, ends: Tensor) -> int:
        """Each slice is an interval as long as its weight: which one a random point lies in.

        ``torch.multinomial`` would take time in proportion to the slices, and no more than 2^24 of them.
        """
        point = torch.rand((), dtype=torch.float64, generator=self.generator) * ends[-1]
        return int(torch.searchsorted(ends, point, right=True))


class PartitionSampler(Sampler[int]):
    """Volume by volume, in random order, one random slice from each partition of its axis (Chaitanya et al. 2020).

    An epoch is as long as the data set. Volumes with fewer slices than partitions are passed over.

    Args:
        dataset: slices of volumes.
        partitions: equal parts of a volume's axis.
        generator: of the order and the slices.

    Raises:
        InputError: if ``partitions`` is below 2, or no volume has a slice in every partition.
    """

    def __init__(self, dataset: SliceDataset, partitions: int, generator: torch.Generator) -> None:
        if not isinstance(partitions, int) or partitions < 2:
            raise InputError(f"partitions must be a whole number of 2 or more, got {partitions!r}.")
        sizes = [len(entry) for entry in dataset.entries]
        parts = (dataset.items.column("position") * partitions).astype(np.int64)
        cells = np.repeat(np.arange(len(sizes)), sizes) * partitions + parts
        counts = np.bincount(cells, minlength=len(sizes) * partitions).reshape(-1, partitions)
        self._counts, self._firsts = counts, counts.cumsum().reshape(counts.shape) - counts
        self._order = cells.argsort(kind="stable")
        self.volumes = np.flatnonzero(counts.all(axis=1))
        if not len(self.volumes):
            raise InputError(
                f"no volume of this data set has a slice in each of {partitions} partitions of its axis: take a method "
                "that needs no positions, such as simclr or ufc, or lower partitions."
            )
        self.generator = generator
        self._length = len(dataset) // partitions * partitions

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return islice(self._endless(), len(self))

    def _endless(self) -> Iterator[int]:
        while True:
            for i in torch.randperm(len(self.volumes), generator=self.generator).tolist():
                volume = self.volumes[i]
                for first, count in zip(self._firsts[volume].tolist(), self._counts[volume].tolist(), strict=True):
                    yield int(self._order[first + int(torch.randint(count, (), generator=self.generator))])
