"""Two views of every image of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from ufc_monai.transforms.batch import BatchAugment, affine_between


@dataclass(eq=False)
class TwoViews:
    """Two differently augmented views of every image of a batch: ``aug_1(x)`` and ``aug_2(x)`` of the paper.

    Attributes:
        augment: what makes a view.
        second: what makes the second view; ``None`` for the same.
    """

    augment: BatchAugment
    second: BatchAugment | None = None

    def __call__(self, image: Tensor) -> Tensor:
        """Return (2B, C, H, W): rows i and i + B are the two views of image i of the batch (B, C, H, W)."""
        return self.located(image)[0]

    def located(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The views, and where their pixels lie in the images, (2B, 2, 3); see :class:`Augmented`."""
        if self.second is None:
            views = self.augment.located(torch.cat([image, image]))
            return views.image, views.affine
        one, two = self.augment.located(image), self.second.located(image)
        return torch.cat([one.image, two.image]), torch.cat([one.affine, two.affine])


class TwoViewsd(MapTransform):
    """Dictionary twin of :class:`TwoViews` for a collated batch: views under the key, other tensors repeated.

    Args:
        keys: key of the image.
        augment: what makes a view.
        second: what makes the second view; ``None`` for the same.
        repeat_keys: keys of tensors (B, ...) to repeat for the second views, such as pseudo-labels.
        affine_key: where the pixels of each view lie in the other view of its image is kept under this key, (2B, 2, 3)
            as :func:`torch.nn.functional.affine_grid` takes it; ``None`` drops it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        augment: BatchAugment,
        second: BatchAugment | None = None,
        repeat_keys: Sequence[str] = (),
        affine_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.views = TwoViews(augment, second)
        self.repeat_keys = repeat_keys
        self.affine_key = affine_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Make the two views of one batch."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key], affine = self.views.located(d[key])
            if self.affine_key is not None:
                d[self.affine_key] = affine_between(affine, affine.roll(len(affine) // 2, dims=0))
        for name in self.repeat_keys:
            d[name] = torch.cat([d[name], d[name]])
        return d
