"""From logits on the network's grid to a mask on the input's own grid, and to a file in its image's format."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing, orientation_ras_lps
from monai.transforms import MapTransform, SaveImaged, Transform
from monai.utils import ImageMetaKey, MetaKeys, optional_import
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, inside
from ufc_monai.base.formats import NIFTI, PICTURES, stem_of, suffix_of
from ufc_monai.transforms.grid import Place
from ufc_monai.transforms.series import simple_itk
from ufc_monai.transforms.twin import Twin

nib, _ = optional_import("nibabel")
Image, _ = optional_import("PIL.Image")


SUFFIX = {".nii": ".nii", ".nrrd": ".nrrd", ".nhdr": ".nrrd", ".mha": ".mha", ".mhd": ".mha"}
SUFFIX |= dict.fromkeys(PICTURES, ".png")
"""The mask's suffix for that of its image; all others, and DICOM, make .nii.gz."""


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
    """Undo :class:`~ufc_monai.transforms.grid.NetworkGridd` on logits that were computed from its ``image``.

    Resizing is undone smoothly, on logits; crop and orientation exactly, on the mask that they make.

    Args:
        keys: keys of the logits, (C, h, w, D).
    """

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Restore every key to the grid, orientation and affine of the image's file; (1, H, W, D) uint8."""
        d = dict(data)
        place = Place.of(d["image"])
        for key in self.key_iterator(d):
            d[key] = place.restored(upsample_argmax(d[key], place.size), d["image"])
        return d


class SaveMask(Transform):
    """Write a mask beside others under one folder, in the format of the image that it belongs to.

    NIfTI makes NIfTI, NRRD makes NRRD, MetaImage makes MHA (these two compressed), a picture makes a PNG whose grey
    values are those of the mask; all others, a DICOM series, a single DICOM file and an .hdr, make .nii.gz. The
    name is the image's with ``_seg`` before the suffix. A uint8 mask makes a uint8 file, any other one of uint16. A
    file is there whole or not at all.

    Args:
        output_dir: folder to write to.
        data_root_dir: folders between this one and the image are made again under ``output_dir``; an image elsewhere
            goes by its name alone.
        ending: what stands for ``seg`` in the name.

    Raises:
        ValueError: when called on a mask that does not lie on the grid of its image's file.
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], data_root_dir: str | os.PathLike[str] = "", ending: str = "seg"
    ) -> None:
        self.output_dir = Path(output_dir)
        self.data_root_dir = os.fspath(data_root_dir)
        self.ending = ending

    def __call__(self, mask: MetaTensor) -> MetaTensor:
        """Write a mask, (1, H, W, D) with whole numbers up to 65535, that carries its image's meta data; return it."""
        path = self.path(mask.meta[ImageMetaKey.FILENAME_OR_OBJ])
        array = mask.as_tensor()[0].cpu().numpy().astype(np.uint8 if mask.dtype == torch.uint8 else np.uint16)
        affine = np.asarray(mask.meta[MetaKeys.ORIGINAL_AFFINE], dtype=np.float64)
        shape = tuple(int(n) for n in mask.meta[MetaKeys.SPATIAL_SHAPE])
        if array.shape != shape or not np.allclose(affine, np.asarray(mask.affine.cpu()), rtol=1e-4, atol=1e-3):
            raise ValueError(f"{path}: the mask, {array.shape}, is not on the grid of its image, {shape}: restore it.")
        with atomic_path(path) as temporary:
            if suffix_of(path) in NIFTI:
                nib.save(nib.Nifti1Image(array, affine), temporary)
            elif suffix_of(path) in PICTURES:
                Image.fromarray(np.ascontiguousarray(array[..., 0].T)).save(temporary, "PNG")
            else:
                simple_itk(path).WriteImage(_itk_image(array, affine), temporary, True)
        return mask

    def path(self, image: str | os.PathLike[str]) -> Path:
        """Where the mask of an image goes.

        Raises:
            InputError: if the name that it would have cannot be stored.
        """
        below = Path(os.path.relpath(image, self.data_root_dir) if self.data_root_dir else "")
        folder = Path() if os.pardir in below.parts else below.parent
        name = Path(os.path.abspath(image)).name
        mask = folder / f"{stem_of(name)}_{self.ending}{SUFFIX.get(suffix_of(name), '.nii.gz')}"
        return inside(self.output_dir, mask.as_posix(), "output_dir")


class SaveMaskd(Twin, SaveImaged):
    """Dictionary twin of :class:`SaveMask`, whose arguments follow ``keys``.

    It is a ``SaveImaged`` because MONAI Label, which answers with the mask itself, leaves out those of a bundle.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str],
        data_root_dir: str | os.PathLike[str] = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, SaveMask(output_dir, data_root_dir), allow_missing_keys)


def mask_paths(
    images: Iterable[str], output_dir: str | os.PathLike[str], data_root_dir: str | os.PathLike[str] = ""
) -> dict[str, Path]:
    """Where :class:`SaveMask` writes the mask of each image.

    Raises:
        InputError: if two masks would be one file, or a name cannot be stored.
    """
    save, image_of = SaveMask(output_dir, data_root_dir), dict[str, str]()
    paths = {image: save.path(image) for image in images}
    for image, path in paths.items():
        if (other := image_of.setdefault(os.path.realpath(path), image)) != image:
            raise InputError(f"the masks of {other} and {image} would both be {path}. Rename one of the scans.")
    return paths


def _itk_image(array: NDArray[Any], affine: NDArray[np.float64]) -> Any:
    """A SimpleITK image of an array indexed (x, y, z) with an RAS affine."""
    image = simple_itk().GetImageFromArray(array.T)
    lps, spacing = orientation_ras_lps(affine), affine_to_spacing(affine)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image
