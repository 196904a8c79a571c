"""From a volume as its file has it to the network's grid in one pass, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.transforms.utils import scale_affine
from monai.utils import MetaKeys, optional_import
from monai.utils.enums import TraceKeys
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.transforms.crop import BodyCrop

nib, _ = optional_import("nibabel")


@dataclass(frozen=True)
class Place:
    """Where the box that a network sees lies in a volume.

    Attributes:
        turn: nibabel's orientation of the file's axes: along which axis of the patient (right, front, head) each runs,
            and in which direction.
        shape: of the volume along the patient's axes.
        start: of the box, in voxels; it may lie outside of the volume in plane.
        end: exclusive.
    """

    turn: list[list[int]]
    shape: list[int]
    start: list[int]
    end: list[int]

    @classmethod
    def of(cls, image: MetaTensor) -> Place:
        """That of what :class:`NetworkGridd` made of an image.

        Raises:
            InputError: if another transform came last.
        """
        done = image.applied_operations[-1] if image.applied_operations else {}
        if done.get(TraceKeys.CLASS_NAME) != NetworkGridd.__name__:
            last = done.get(TraceKeys.CLASS_NAME, "nothing")
            raise InputError(f"RestoreGridd: the last transform of the image must be NetworkGridd, not {last}.")
        return cls(**done[TraceKeys.EXTRA_INFO])

    @property
    def size(self) -> tuple[int, int]:
        """Of the box in plane."""
        return self.end[0] - self.start[0], self.end[1] - self.start[1]

    def affine(self, stored: Any, resized: Sequence[int]) -> Tensor:
        """That of the box once it is resized, (4, 4) float64, from the file's."""
        shape = [self.shape[int(axis)] for axis, _ in self.turn]
        shift = np.eye(4)
        shift[:3, 3] = self.start
        scale = np.asarray(scale_affine([b - a for a, b in zip(self.start, self.end, strict=True)], resized))
        turned = np.asarray(stored, dtype=np.float64) @ nib.orientations.inv_ornt_aff(np.array(self.turn), shape)
        return torch.from_numpy(turned @ shift @ scale)

    def overlap(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """In plane, where volume and box overlap: in the volume, and in the box."""
        sides = list(zip(self.start, self.end, self.shape, strict=True))[:2]
        ends = [(min(max(a, 0), n), max(min(b, n), 0), a) for a, b, n in sides]
        return tuple(slice(a, b) for a, b, _ in ends), tuple(slice(a - first, b - first) for a, b, first in ends)

    def slices(self, volume: NDArray[Any], make: Callable[[Tensor], Tensor], *, air: bool) -> Tensor:
        """What ``make`` makes of each axial slice of the box, stacked along the last axis.

        Args:
            volume: (C, H, W, D), along the patient's axes.
            make: gets a slice (C, h, w), float32, which it may change.
            air: whether the volume's smallest value lies around it, and not 0.
        """
        inside, within = self.overlap()
        beyond = min(self.start) < 0 or any(b > n for b, n in zip(self.end, self.shape, strict=True))
        value = float(volume.min()) if air and beyond else 0.0
        found = []
        for axial in np.moveaxis(volume[:, *inside], -1, 0):
            pixels = np.full((len(volume), *self.size), value, dtype=np.float32)
            pixels[:, *within] = axial
            found.append(make(torch.from_numpy(pixels)))
        return torch.stack(found, dim=-1)

    def restored(self, mask: Tensor, image: MetaTensor) -> MetaTensor:
        """Undo crop and turn: a mask on the grid of the image's file.

        Args:
            mask: (1, *size, D) uint8.
            image: what :class:`NetworkGridd` made of the image.
        """
        whole = np.zeros(self.shape, dtype=np.uint8)
        inside, within = self.overlap()
        whole[inside] = mask[0].numpy()[within]
        back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), np.array(self.turn))
        stored = torch.from_numpy(nib.apply_orientation(whole, back).copy())[None]
        meta = {**image.meta, MetaKeys.AFFINE: image.meta[MetaKeys.ORIGINAL_AFFINE]}
        return MetaTensor(stored, meta=meta, applied_operations=image.applied_operations[:-1])


class NetworkGridd(MapTransform):
    """Turn to RAS, crop to the body, window and resize every axial slice: what a network sees of a volume.

    The same as ``Orientationd``, a crop to :class:`~ufc_monai.transforms.crop.BodyCrop`'s box, filled with air beyond
    the image, ``ScaleIntensityRanged`` and ``Resized`` (area for the image, nearest for labels) behind each other. But
    each slice goes through all of it while it is in the processor's cache, and no copy of the volume is made, which
    stays as its file has it: two bytes a voxel as a rule.

    Args:
        keys: the image, then labels on its grid, whose values are classes.
        size: side of a slice of the network, in pixels.
        window: the values that become 0 and 1; the image is clipped to them.
        region: of :class:`~ufc_monai.transforms.crop.BodyCrop`.
    """

    def __init__(
        self, keys: KeysCollection, size: int, window: Sequence[float], region: Sequence[float] | None = None
    ) -> None:
        super().__init__(keys)
        self.size = (size, size)
        self.window = tuple(window)
        self.crop = BodyCrop(region)

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Bring volumes (C, H, W, D) in any orientation to (C, size, size, D) in RAS, float32."""
        d = dict(data)
        volumes = [d[key] for key in self.keys]
        turn = nib.io_orientation(np.asarray(volumes[0].affine)).astype(int)
        image, *labels = views = [turned(np.asarray(volume), turn) for volume in volumes]
        start, end = self.crop.box_around(image, labels)
        place = Place(turn.tolist(), list(image.shape[1:]), start.tolist(), end.tolist())
        done = {TraceKeys.CLASS_NAME: type(self).__name__, TraceKeys.EXTRA_INFO: asdict(place)}
        for key, volume, view in zip(self.keys, volumes, views, strict=True):
            resize = self._image_slice if view is image else self._label_slice
            found = place.slices(view, resize, air=view is image)
            meta = {**volume.meta, MetaKeys.AFFINE: place.affine(volume.affine, found.shape[1:])}
            d[key] = MetaTensor(found, meta=meta, applied_operations=[*volume.applied_operations, done])
        return d

    def _image_slice(self, pixels: Tensor) -> Tensor:
        low, high = self.window
        pixels.sub_(low).div_(high - low).clamp_(0, 1)
        return F.interpolate(pixels[None], self.size, mode="area")[0]

    def _label_slice(self, pixels: Tensor) -> Tensor:
        return F.interpolate(pixels[None], self.size, mode="nearest")[0]


def turned(volume: NDArray[Any], turn: Any) -> NDArray[Any]:
    """A view of a volume (C, H, W, D) along the patient's axes, by nibabel's orientation of its own."""
    view: NDArray[Any] = np.moveaxis(nib.apply_orientation(np.moveaxis(volume, 0, -1), turn), -1, 0)
    return view
