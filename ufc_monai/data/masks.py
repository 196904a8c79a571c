"""Masks of a shape from a folder of the user's, without images."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from monai.transforms import Compose
from torch import Tensor

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import suffix_of
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.pictures import refuse_lossy
from ufc_monai.transforms.volume import LoadVolumed


def masks_in(folder: str | os.PathLike[str], size: int) -> Tensor:
    """Read masks, whatever is above 0; of volumes each axial slice; none that is empty or full.

    Args:
        folder: of pictures or volumes; they may belong to other images than those that are trained on.
        size: side of a mask in pixels.

    Returns:
        (n, 1, size, size), 0 or 1, as the network sees images.

    Raises:
        InputError: if there are no files, one is a JPEG or cannot be read, or all are empty or full.
    """
    files = [{"image": str(path)} for path in sorted(Path(folder).rglob("*")) if suffix_of(path)]
    if not files:
        raise InputError(f"shape_dir: there are no pictures or volumes in {folder}. Name a folder of masks.")
    for file in files:
        refuse_lossy(file["image"])
    read = Compose([LoadVolumed("image"), NetworkGridd("image", size, (0, 1))])
    masks = torch.cat([read(file)["image"].as_tensor().movedim(-1, 0) for file in files]) >= 0.5
    pixels = masks.flatten(1)
    masks = masks[pixels.any(dim=1) & ~pixels.all(dim=1)]
    if not len(masks):
        raise InputError(f"shape_dir: all {len(files)} masks in {folder} are empty or full. Name others.")
    return masks.float()
