"""Slices mixed with each other: a box of one pasted into another, image and label alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from torch import Tensor

from ufc_monai.transforms.batch import BatchAugment


class MixSlices(Transform):
    """Paste a box of each slice's neighbour in the batch into it (CutMix, Yun et al. 2019, for label maps).

    Neighbours are the samples 2i and 2i + 1, and a last one without neighbour takes the first: which slices are mixed
    is the sampler's to choose. The network sees organs beside tissue that they never touch, so it has to know them by
    themselves: with two labelled volumes that gained five points of Dice (docs/results.md).

    Args:
        area: smallest and largest share of the slice that a box covers, in (0, 1].
        aspect: smallest and largest height of a box by its width, above 0; drawn evenly on a logarithmic scale.
        seed: of the random numbers, which do not depend on the global state.

    Example:
        >>> image = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 32, 32)
        >>> (mixed,) = MixSlices(area=(0.5, 0.5))(image)
        >>> mixed[0].unique(), mixed[3].unique()
        (tensor([0., 1.]), tensor([2., 3.]))
    """

    def __init__(self, area: Sequence[float] = (0.1, 0.6), aspect: Sequence[float] = (0.3, 3.3), seed: int = 0) -> None:
        self.area = area
        self.aspect = aspect
        self.generator = torch.Generator().manual_seed(seed)

    def randomize(self, batch: int, size: Sequence[int]) -> Tensor:
        """Draw a box for each slice.

        Args:
            batch: number of slices.
            size: height and width.

        Returns:
            (batch, 1, H, W) bool, true inside the box.
        """
        area, shape, *place = torch.rand(4, batch, 1, generator=self.generator)
        area = self.area[0] + (self.area[1] - self.area[0]) * area
        aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** shape
        sides = (area * aspect).sqrt(), (area / aspect).sqrt()
        inside = []
        for n, side, where in zip(size, sides, place, strict=True):
            length = (side * n).round().clamp(1, n)
            start = (where * (n + 1 - length)).floor()
            pixel = torch.arange(n)
            inside.append((pixel >= start) & (pixel < start + length))
        rows, columns = inside
        inside_both: Tensor = rows[:, :, None] & columns[:, None, :]
        return inside_both[:, None]

    def __call__(self, *maps: Tensor) -> tuple[Tensor, ...]:
        """Mix the slices of a batch.

        Args:
            maps: images, labels, weights: (B, C, H, W) each, of any type; all are mixed by the same boxes.

        Returns:
            The mixed maps in the same order.
        """
        b, _, *size = maps[0].shape
        box = self.randomize(b, size).to(maps[0].device)
        neighbour = torch.arange(b) ^ 1
        neighbour[neighbour == b] = 0
        return tuple(torch.where(box, values[neighbour], values) for values in maps)


class MixSlicesd(MapTransform):
    """Append the mixed slices to a batch, so that each sample is there as it is and mixed.

    Args:
        keys: of images, labels, weights: (B, C, H, W) in, (2B, C, H, W) out.
        mix: pastes the boxes.
        augment: changes the first two keys, image and label, once more before they are mixed.
    """

    def __init__(self, keys: KeysCollection, mix: MixSlices, augment: BatchAugment | None = None) -> None:
        super().__init__(keys)
        self.mix = mix
        self.augment = augment

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Double the batch."""
        plain = [data[key] for key in self.keys]
        changed = plain
        if self.augment is not None:
            changed = [*self.augment(*plain[:2]), *plain[2:]]
        mixed = self.mix(*changed)
        doubled = (torch.cat(pair) for pair in zip(plain, mixed, strict=True))
        return {**data, **dict(zip(self.keys, doubled, strict=True))}
