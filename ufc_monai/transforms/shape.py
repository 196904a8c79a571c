"""Masks of a shape beside a batch of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ufc_monai.transforms.batch import BatchAugment


@dataclass(eq=False)
class ShapeMasksd:
    """Add masks of a shape to a batch of two views, one for each first view, drawn with replacement and augmented.

    The views are its ``image``, (2b, C, H, W), the first before the second; see
    :class:`~ufc_monai.transforms.TwoViewsd`.

    Attributes:
        masks: to draw from, (n, 1, H, W), in [0, 1].
        augment: what turns and crops them, as it does the images; all is drawn from its generator.
        key: of the masks in the batch.
    """

    masks: Tensor
    augment: BatchAugment
    key: str = "masks"

    def __call__(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add (b, 1, H, W) on the images' device."""
        image = data["image"]
        chosen = torch.randint(len(self.masks), (len(image) // 2,), generator=self.augment.generator)
        return {**data, self.key: self.augment(self.masks[chosen].to(image.device))[0]}
