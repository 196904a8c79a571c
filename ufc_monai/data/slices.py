"""A map-style data set of the axial slices of volumes, for any PyTorch loader, and a sampler by their position."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from ufc_monai.base.errors import InputError
from ufc_monai.base.ranks import first_rank
from ufc_monai.data.store import SliceStore, StoreEntry
from ufc_monai.transforms.volume import AxialSlicesd


class SliceDataset(Dataset[dict[str, Any]]):
    """The axial slices of volumes, read from a store on disk.

    ``transform`` is what a ``CacheDataset`` would take as well, and gives the same samples there. What stands before
    and including ``AxialSlicesd`` runs once a volume and its result is kept in the store;
    what stands behind it runs for every sample. Shuffle it, weight it, read it with any number of workers.

    Args:
        data: items of one volume each, with the paths of ``image`` and, if wanted, ``label``.
        transform: a ``Compose`` with one ``AxialSlicesd``.
        cache_dir: folder of the store; entries are found again by what they were made of.

    Raises:
        InputError: if ``data`` is empty, ``transform`` has no ``AxialSlicesd``, or a volume cannot be used.

    Example:
        >>> from monai.transforms import Compose
        >>> from ufc_monai.transforms import AxialSlicesd, LoadVolumed
        >>> items = [{"image": "scan.nii.gz"}]
        >>> slices = SliceDataset(
        ...     items, Compose([LoadVolumed("image"), AxialSlicesd("image")]), "cache"
        ... )  # doctest: +SKIP
        >>> slices[0]["id"]  # doctest: +SKIP
        'scan.nii.gz#0'
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose,
        cache_dir: str | os.PathLike[str],
    ) -> None:
        if not data:
            raise InputError("SliceDataset got no volumes: the list under 'data' is empty. Check dataset_dir.")
        self.data = [dict(item) for item in data]
        self.transform = transform
        steps = list(transform.flatten().transforms)
        cut = next((i for i, step in enumerate(steps) if isinstance(step, AxialSlicesd)), None)
        if cut is None:
            raise InputError("SliceDataset: its transform needs one AxialSlicesd, which cuts volumes into slices.")
        self.slice_transform = Compose(steps[cut + 1 :])
        with first_rank():
            self.entries: list[StoreEntry] = SliceStore(cache_dir, steps[: cut + 1]).open(self.data)
        self._ends = list(accumulate(len(entry) for entry in self.entries))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.slice_transform(self.stored(index)))

    def stored(self, index: int) -> dict[str, Any]:
        """A slice as the store holds it, before what is done to every sample."""
        place = range(len(self))[index]
        volume = bisect_right(self._ends, place)
        entry = self.entries[volume]
        return entry.sample(place - self._ends[volume] + len(entry))

    @property
    def items(self) -> list[dict[str, Any]]:
        """``id``, ``patient`` and ``position`` of every slice, without reading pixels."""
        return [item for entry in self.entries for item in entry.items]

    def slices_per_image(self) -> dict[str, int]:
        """Number of slices of every image, by its name in the slice ids."""
        return {entry.items[0]["id"].rpartition("#")[0]: len(entry) for entry in self.entries}

    def class_counts(self, n_classes: int, key: str = "label") -> torch.Tensor:
        """Pixels of each class in each slice, (number of slices, ``n_classes``) int64; ignored ones count nowhere.

        Args:
            n_classes: classes including background.
            key: the label, integers 0 to ``n_classes - 1``, and 255 where it is ignored.
        """
        volumes = tqdm(self.entries, "labels", unit="volume", leave=False, disable=None)
        labels = (label.ravel().astype(np.int64) for entry in volumes for label in entry.array(key))
        counts = [np.bincount(label, minlength=n_classes)[:n_classes] for label in labels]
        return torch.from_numpy(np.stack(counts))

    def foreground_weights(self, n_classes: int, base: float = 0.1) -> torch.Tensor:
        """Sampling weights that favour slices with many classes: ``base`` + share of the foreground classes present.

        Args:
            n_classes: classes including background.
            base: weight of a slice of background alone.

        Returns:
            (number of slices,) float64.
        """
        present = self.class_counts(n_classes)[:, 1:] > 0
        return base + present.double().mean(dim=1)


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
        return islice(self._endless(), len(self))

    def _endless(self) -> Iterator[int]:
        while True:
            for volume in torch.randperm(len(self.volumes), generator=self.generator).tolist():
                for cell in self.volumes[volume]:
                    yield cell[int(torch.randint(len(cell), (), generator=self.generator))]
