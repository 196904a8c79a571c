"""What all stages do to a volume: one chain, from its file to the network's grid or to slices of the store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import CastToTyped, Transform
from torch import Tensor

from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.labels import RemapLabelsd
from ufc_monai.transforms.twin import Twin
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

GREY_LEVEL = 1 / 255
"""What varies by less is flat, and is not blown up."""

STORED = {"image": torch.float16, "label": torch.uint8}


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


def volume_chain(
    preprocessing: Mapping[str, Any],
    channels: int = 1,
    remap: RemapLabelsd | None = None,
    *,
    labels_as_stored: bool = False,
    compact: bool = False,
) -> list[Transform]:
    """Load ``image``, and ``label`` if there is one, remap its ids, and bring both to the network's grid.

    The list is flat and begins with the loader, so that a server can take that into its own hands, and
    :class:`~ufc_monai.transforms.save.RestoreGridd` can undo the rest.

    Args:
        preprocessing: ``image_size``, ``window`` (the values that become 0 and 1), ``region`` (of
            :class:`~ufc_monai.transforms.crop.BodyCrop`) and ``standardise``, as in network.json.
        channels: of the image.
        remap: makes class indices of the label's ids; ``None`` where only the image is read.
        labels_as_stored: leave the label on the grid of its file, as a reference of restored masks.
        compact: end with the types of the slice store, float16 and uint8, and leave standardising to what reads it.

    Returns:
        Transforms of an item with the paths of ``image`` and ``label``; volumes (C, image_size, image_size, D) come
        out, the image in [0, 1] or standardised slice by slice.
    """
    read = ["image", "label"] if remap else ["image"]
    moved = read[:1] if labels_as_stored else read
    window = preprocessing["window"]
    chain: list[Transform] = [
        LoadVolumed(read, channels=channels, window=window, dtype=None),
        *([remap] if remap else []),
        NetworkGridd(moved, preprocessing["image_size"], window, preprocessing["region"]),
    ]
    if compact:
        return [*chain, CastToTyped(moved, dtype=[STORED[key] for key in moved])]
    return [*chain, Standardised("image", axes=(1, 2))] if preprocessing["standardise"] else chain


def slice_chain(
    preprocessing: Mapping[str, Any],
    channels: int,
    root: str | os.PathLike[str],
    remap: RemapLabelsd | None = None,
    *,
    standardise: bool = False,
) -> list[Transform]:
    """The volume chain, cut into axial slices for a :class:`~ufc_monai.data.slices.SliceDataset`; samples are float32.

    Args:
        preprocessing: as in :func:`volume_chain`.
        channels: of the image.
        root: folder that the paths in the slices' ids are relative to.
        remap: as in :func:`volume_chain`.
        standardise: standardise every sample; a training does it batch by batch, behind its augmentation.
    """
    chain = volume_chain(preprocessing, channels, remap, compact=True)
    chain += [AxialSlicesd(["image", "label"] if remap else ["image"], root), CastToTyped("image", torch.float32)]
    return [*chain, Standardised("image")] if standardise else chain
