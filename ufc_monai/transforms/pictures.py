"""Pictures as volumes of one slice, and what is wrong with some."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from ufc_monai.base.errors import BadFileError, InputError
from ufc_monai.base.formats import suffix_of
from ufc_monai.transforms.series import simple_itk

Image, _ = optional_import("PIL.Image")
ExifTags, _ = optional_import("PIL.ExifTags")
logger = logging.getLogger(__name__)

LUMINANCE = (2125, 7154, 721)
"""Weights of red, green and blue (Rec. 709) in ten-thousandths: whole numbers keep a grey colour's value exactly."""
LOSSY = (".jpg", ".jpeg")
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
"""What the pixels of a JPEG stand between."""


def check_picture(path: Path) -> None:
    """Refuse a picture that viewers turn, and a JPEG without an end, of which ITK reads what there is.

    Raises:
        InputError: naming it.
    """
    with Image.open(path) as picture:
        if picture.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            raise InputError(
                f"{path}: viewers turn it, as its EXIF says, and its label may lie on either. Save it upright, "
                "without that tag."
            )
    written = path.read_bytes() if suffix_of(path) != ".png" else b""
    if written.rfind(JPEG_END) < written.rfind(JPEG_SCAN):
        raise InputError(f"{path}: the picture is cut off. Copy it again or remove it.")


def refuse_lossy(label: str | os.PathLike[str]) -> None:
    """Refuse a label in JPEG: small ids are lost in it, and others stray.

    Raises:
        BadFileError: naming it.
    """
    if suffix_of(label) in LOSSY:
        raise BadFileError(f"{label}: JPEG changes the values that it stores: no ids. Export the label as PNG.")


def picture_as_slice(picture: Any, channels: int) -> Any:
    """A picture as a volume of one slice; size 1 and the patient's position, lying on the back, are made up.

    Args:
        picture: SimpleITK's image, grey or in colours, perhaps with opacity, which is left out.
        channels: 1 for grey values (luminance), 3 for red, green and blue.
    """
    sitk = simple_itk()
    pixels = np.atleast_3d(sitk.GetArrayFromImage(picture))
    colours = pixels.shape[2] >= 3  # red, green, blue and perhaps opacity; else grey and perhaps opacity
    if channels == 3:
        pixels = pixels[..., :3] if colours else np.repeat(pixels[..., :1], 3, axis=2)
        return sitk.GetImageFromArray(pixels[None], isVector=True)
    if colours:
        _say_that_colours_are_lost()
        pixels = (pixels[..., :3] @ np.array(LUMINANCE, dtype=np.float64) / sum(LUMINANCE)).astype(np.float32)
    else:
        pixels = pixels[..., 0]
    return sitk.GetImageFromArray(pixels[None])


@functools.cache
def _say_that_colours_are_lost() -> None:
    logger.info("colour pictures are read as grey ones (luminance); channels 3 keeps the colours")
