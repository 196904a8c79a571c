"""Pictures that are there twice: the same bytes, or the same view in another encoding or size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from monai.utils import optional_import
from tqdm.contrib.concurrent import thread_map

from ufc_monai.base.errors import BadFileError

Image, _ = optional_import("PIL.Image")
dctn, _ = optional_import("scipy.fft", name="dctn")


SIDE = 32
"""Pixels of a side of the small grey picture that is hashed."""
KEPT = 8
"""Frequencies of a side that the hash looks at."""
ALIKE = 4
"""Bits of 64 that two encodings of one picture may differ in. Two pictures differ in half of them on average."""


def perceptual_hash(path: str | os.PathLike[str]) -> int:
    """64 bits that stay nearly the same if a picture is resized, encoded again or made brighter.

    They say which of the low frequencies of the grey picture, by the discrete cosine transform, are above their median.
    """
    try:
        with Image.open(path) as picture:
            picture.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is read no larger than needed
            # "L" would cut 16 bits off at 255
            grey = picture.convert("I").convert("F") if picture.mode.startswith("I") else picture.convert("L")
            small = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise BadFileError(f"{path}: cannot be read as a picture ({e}). Copy the file again or remove it.") from e
    low = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:KEPT, :KEPT].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int(np.packbits(bits).view(">u8")[0])


def perceptual_hashes(root: Path, images: Sequence[str]) -> dict[str, int]:
    """The hashes of some pictures.

    Args:
        root: folder of the data set.
        images: paths relative to it.
    """
    bar = {"desc": "comparing pictures", "unit": "picture", "leave": False, "disable": None}
    hashes = thread_map(lambda image: perceptual_hash(root / image), images, **bar)
    return dict(zip(images, hashes, strict=True))


def find_copies(
    pool: Sequence[str], held_out: Sequence[str], sha256: Mapping[str, str], hashes: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """Pictures to train on that are there among those held out.

    Args:
        pool: pictures to train on.
        held_out: pictures of validation and test.
        sha256: of every picture's bytes.
        hashes: the perceptual hash of every picture.

    Returns:
        Those with the same bytes; and further ones whose hashes differ in 4 bits of 64 at most.
    """
    bytes_held_out = {sha256[image] for image in held_out}
    exact = {image for image in pool if sha256[image] in bytes_held_out}
    theirs = {hashes[image] for image in held_out}
    alike = {image for image in pool if any((hashes[image] ^ hashed).bit_count() <= ALIKE for hashed in theirs)}
    return exact, alike - exact
