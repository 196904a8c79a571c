"""A map-style data set of the axial slices of volumes, for any PyTorch loader."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from torch.utils.data import Dataset
from tqdm import tqdm

from ufc_monai.base.errors import InputError
from ufc_monai.base.ranks import first_rank
from ufc_monai.data.items import JoinedItems
from ufc_monai.data.store import SliceStore, StoreEntry
from ufc_monai.transforms.clean import largest_share
from ufc_monai.transforms.volume import AxialSlicesd

ONE_PIECE = 0.95
"""What the largest piece must hold of a class that is one piece of tissue, in every volume that has it."""


class SliceDataset(Dataset[dict[str, Any]]):
    """The axial slices of volumes, read from a store on disk.

    ``transform`` is what a ``CacheDataset`` would take as well, and gives the same samples there. What stands before
    and including ``AxialSlicesd`` runs once a volume and its result is kept in the store;
    what stands behind it runs for every sample. Shuffle it, weight it, read it with any number of workers.

    Args:
        data: items of one volume each, with the paths of ``image`` and, if wanted, ``label``.
        transform: a ``Compose`` with one ``AxialSlicesd``.
        cache_dir: folder of the store; entries are found again by what they were made of.

    Attributes:
        entries: of the store, one a volume.
        items: ``id``, ``patient`` and ``position`` of every slice, without its pixels.

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
        self.items = JoinedItems([entry.items for entry in self.entries])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self.slice_transform(self.stored(index)))

    def stored(self, index: int) -> dict[str, Any]:
        """A slice as the store holds it, before what is done to every sample."""
        volume, number = self.items.place(index)
        return self.entries[volume].sample(number)

    def slices_per_image(self) -> dict[str, int]:
        """Number of slices of every image, by its name in the slice ids."""
        return {entry.items[0]["id"].rpartition("#")[0]: len(entry) for entry in self.entries}

    def class_counts(self, n_classes: int) -> torch.Tensor:
        """Pixels of each class in each slice, (number of slices, ``n_classes``) int64; ignored ones count nowhere.

        Args:
            n_classes: classes including background; 255 is ignored.
        """
        volumes = tqdm(self.entries, "labels", unit="volume", leave=False, disable=None)
        labels = (label.ravel().astype(np.int64) for entry in volumes for label in entry.array("label"))
        counts = [np.bincount(label, minlength=n_classes)[:n_classes] for label in labels]
        return torch.from_numpy(np.stack(counts))

    def connected_classes(self, n_classes: int) -> list[int]:
        """Classes whose largest piece holds :data:`ONE_PIECE` of them: what a prediction shows elsewhere is wrong.

        Args:
            n_classes: classes including background.

        Returns:
            Those that occur, in rising order; none of pictures, which have no third axis.
        """
        occurring, apart = set[int](), set[int]()
        for entry in tqdm(self.entries, "pieces", unit="volume", leave=False, disable=None):
            label = np.moveaxis(entry.array("label")[:, 0], 0, -1)
            found = [c for c in np.flatnonzero(np.bincount(label.ravel())).tolist() if 0 < c < n_classes]
            occurring.update(found if len(entry) > 1 else ())
            apart.update(c for c in found if c not in apart and largest_share(label == c) < ONE_PIECE)
        return sorted(occurring - apart)

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
