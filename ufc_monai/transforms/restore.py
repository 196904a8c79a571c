"""From logits on the network's grid to a mask on the input's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from monai.transforms.utils import scale_affine
from monai.utils.enums import TraceKeys
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.errors import InputError


def upsample_argmax(logits: Tensor, size: tuple[int, int], slices: int = 16) -> Tensor:
    """The winning class of every pixel after resizing each slice bilinearly.

    Works on a few slices at a time: the logits of all classes on the full grid of a CT volume would take gigabytes.

    Args:
        logits: (C, h, w, D).
        size: in-plane size (H, W) wanted.
        slices: how many to hold at a time.

    Returns:
        (1, H, W, D) uint8.
    """
    mask = torch.empty((1, *size, logits.shape[-1]), dtype=torch.uint8)
    for start in range(0, logits.shape[-1], slices):
        part = logits[..., start : start + slices].permute(3, 0, 1, 2).contiguous()
        # max is several times faster than argmax over this axis
        winner = F.interpolate(part.float(), size=size, mode="bilinear", align_corners=False).max(dim=1).indices
        mask[0, :, :, start : start + slices] = winner.permute(1, 2, 0).to("cpu", torch.uint8)
    return mask


class RestoreGridd(MapTransform):
    """Undo the preprocessing of an image on the logits that were computed from it; a mask comes out.

    The last spatial step of the preprocessing must be ``Resized``, which is undone smoothly, on logits; cropping and
    orientation before it are undone exactly, on the mask.

    Args:
        keys: keys of the logits, (C, h, w, D).
        transform: the preprocessing.
        orig_key: key of the preprocessed image, which remembers what was done to it.
    """

    def __init__(self, keys: KeysCollection, transform: Compose, orig_key: str = "image") -> None:
        super().__init__(keys)
        self.transform = transform
        self.orig_key = orig_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Restore every key to the grid, orientation and affine of the image's file; (1, H, W, D) uint8."""
        d = dict(data)
        image = d[self.orig_key]
        *before, resize = image.applied_operations
        if resize[TraceKeys.CLASS_NAME] != "Resize":
            raise InputError(f"RestoreGridd: the preprocessing must end with Resized, not {resize['class']}.")
        size = [int(n) for n in resize[TraceKeys.ORIG_SIZE]]
        scale = torch.as_tensor(scale_affine(size, image.shape[1:]), dtype=torch.float64)
        steps = [step for step in self.transform.flatten().transforms if type(step).__name__ != "Resized"]
        for key in self.key_iterator(d):
            mask = MetaTensor(
                upsample_argmax(d[key], (size[0], size[1])),
                affine=image.affine.double() @ torch.linalg.inv(scale),
                meta=image.meta,
                applied_operations=list(before),
            )
            d[key] = Compose(steps).inverse({self.orig_key: mask})[self.orig_key]
        return d
