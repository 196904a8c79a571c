"""Zero mean and unit variance, for each picture and channel by itself."""

from __future__ import annotations

from collections.abc import Sequence

from monai.config import KeysCollection
from monai.transforms import Transform
from torch import Tensor

from ufc_monai.transforms.twin import Twin

GREY_LEVEL = 1 / 255
"""What varies by less is flat, and is not blown up."""


class Standardise(Transform):
    """Shift and scale every channel of every slice to mean 0 and standard deviation 1 over its pixels.

    Args:
        axes: the two axes of a slice's pixels. The default is right for a slice (C, H, W) and a batch of slices
            (B, C, H, W); a volume (C, H, W, D), slice by slice, takes (1, 2).

    Example:
        >>> import torch
        >>> picture = Standardise()(torch.rand(3, 8, 8))
        >>> torch.allclose(picture.mean(dim=(1, 2)), torch.zeros(3), atol=1e-6)
        True
    """

    def __init__(self, axes: Sequence[int] = (-2, -1)) -> None:
        self.axes = tuple(axes)

    def __call__(self, image: Tensor) -> Tensor:
        """Standardise an image with values in [0, 1]; what is flat becomes 0."""
        mean, deviation = self.statistics(image)
        standard: Tensor = (image - mean) / deviation
        return standard

    def statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, at least one of 256 grey levels, that broadcast to ``image``."""
        mean = image.mean(dim=self.axes, keepdim=True)
        deviation = (image - mean).square().mean(dim=self.axes, keepdim=True).sqrt()
        return mean, deviation.clamp_min(GREY_LEVEL)


class Standardised(Twin):
    """Dictionary twin of :class:`Standardise`, whose argument follows ``keys``."""

    def __init__(self, keys: KeysCollection, axes: Sequence[int] = (-2, -1), allow_missing_keys: bool = False) -> None:
        super().__init__(keys, Standardise(axes), allow_missing_keys)
