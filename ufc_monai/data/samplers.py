"""The order in which slices are drawn: one from each part of a volume, or in pairs that are mixed with each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from ufc_monai.base.errors import InputError
from ufc_monai.data.slices import SliceDataset

NEAR = 0.05
"""The distance of mixing partners, as a share of the volume, that is one standard deviation."""


class PartnerSampler(Sampler[int]):
    """Slices drawn by weight, each followed by a partner to be mixed with (``MixSlices`` mixes neighbours).

    Args:
        weights: of the slices, (N,).
        num_samples: how many make an epoch.
        partners: ``"any"``: by weight alone; ``"position"``: near the same relative position in its volume;
            ``"cluster"``: of the same cluster of stage 1, where it has another slice.
        positions: in [0, 1], (N,); for ``"position"``.
        clusters: (N,); for ``"cluster"``.
        generator: of the order.
        partner_weights: of the slices as partners, (N,); those of ``weights`` where none is above 0. It may be set anew
            between epochs.

    Raises:
        InputError: at another rule, or one whose values are missing.
    """

    def __init__(
        self,
        weights: Tensor,
        num_samples: int,
        partners: str,
        generator: torch.Generator,
        *,
        positions: Sequence[float] | NDArray[np.float64] | None = None,
        clusters: Sequence[int] | None = None,
        partner_weights: Tensor | None = None,
    ) -> None:
        values = {"any": (), "position": positions, "cluster": clusters}.get(partners)
        if values is None:
            raise InputError(
                f"partners must be any, position or cluster, got {partners!r}; cluster needs the pseudo_labels_path of "
                "stage 1."
            )
        self.weights = weights.double()
        self.partner_weights = self.weights if partner_weights is None else partner_weights.double()
        self.num_samples = num_samples
        self.partners = partners
        self.values = torch.tensor(values, dtype=torch.float64)
        self.generator = generator

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        return islice(self._endless(), self.num_samples)

    def _endless(self) -> Iterator[int]:
        while True:
            one = self._drawn(self.weights)
            yield one
            yield self._drawn(self._weights_beside(one))

    def _weights_beside(self, one: int) -> Tensor:
        usual = self.partner_weights if self.partner_weights.any() else self.weights
        if self.partners == "any":
            return usual
        apart = self.values - self.values[one]
        likely = torch.exp(-((apart / NEAR) ** 2) / 2) if self.partners == "position" else (apart == 0).double()
        beside = (usual * likely).index_fill(0, torch.tensor(one), 0)
        return beside if beside.any() else usual

    def _drawn(self, weights: Tensor) -> int:
        return int(torch.multinomial(weights, 1, generator=self.generator))


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
