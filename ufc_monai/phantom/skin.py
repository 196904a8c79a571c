"""Synthetic dermoscopic pictures of skin lesions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage
from tqdm import tqdm

from ufc_monai.base.files import atomic_path

Array = NDArray[np.float64]

TONES = np.array([(0.94, 0.78, 0.70), (0.88, 0.68, 0.56), (0.74, 0.54, 0.42), (0.55, 0.38, 0.29)])
"""Skin from light to dark; red, green, blue."""
PIGMENT = np.array([(0.62, 0.45, 0.40), (0.50, 0.38, 0.36), (0.66, 0.40, 0.44)])
"""The share of the skin's red, green and blue that brown, black and reddish lesions reflect."""
ASPECTS = (1.0, 4 / 3, 3 / 2)
"""Width over height of a picture."""


def make_skin_phantom(
    folder: str | os.PathLike[str], *, pictures: int = 24, labelled: int | None = None, size: int = 96, seed: int = 0
) -> list[Path]:
    """Write pictures ``images/skin_0001.png`` and masks ``labels/skin_0001_segmentation.png``, and so on.

    Every picture shows one lesion, darker than the skin around it and of irregular shape, perhaps with hairs across.
    They differ in skin tone, in the lesion's colour, place and size, in light and in aspect ratio. Masks hold
    0 and 255.

    Args:
        folder: where to write; made if missing.
        pictures: how many.
        labelled: how many of them, from the first, get a mask; ``None`` for all.
        size: height of a picture in pixels.
        seed: the same seed writes the same pixels.

    Returns:
        The paths of the pictures.
    """
    images = []
    for n in tqdm(range(pictures), "phantom", unit="picture", disable=None):
        picture, mask = draw_lesion(np.random.default_rng([seed, n]), size)
        name = f"skin_{n + 1:04d}"
        # mask first: if this is interrupted, a picture without one would count as unlabelled
        if labelled is None or n < labelled:
            _write(Path(folder) / "labels" / f"{name}_segmentation.png", mask)
        images.append(_write(Path(folder) / "images" / f"{name}.png", picture))
    return images


def draw_lesion(rng: Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One picture (height, width, 3) and its mask (height, width)."""
    width = round(size * rng.choice(ASPECTS))
    y, x = np.meshgrid(np.arange(size) - size / 2, np.arange(width) - width / 2, indexing="ij")
    y, x = y / size, x / size  # the height is 1, the middle is 0
    skin = rng.choice(TONES) * (1 + 0.05 * _mottled(rng, x.shape, size / 12)[..., None])
    depth = _depth(rng, x, y)
    coverage = ndimage.gaussian_filter((depth > 0).astype(float), size / 60)[..., None]
    patches = 1 + 0.25 * _mottled(rng, x.shape, size / 16)[..., None]
    left = (rng.choice(PIGMENT) * rng.uniform(0.8, 1.15) * patches).clip(0.05, 0.95)
    picture = skin * (1 - coverage + coverage * left)
    picture = np.where(_hairs(rng, x, y)[..., None], picture * 0.35, picture) * _light(rng, x, y)
    picture += rng.normal(0, 0.012, picture.shape)
    return (255 * picture.clip(0, 1)).round().astype(np.uint8), np.where(depth > 0, 255, 0).astype(np.uint8)


def _depth(rng: Generator, x: Array, y: Array) -> Array:
    """How far within the lesion's outline, an ellipse with waves, a pixel lies; below 0 outside."""
    x, y = x - rng.uniform(-0.12, 0.12), y - rng.uniform(-0.12, 0.12)
    turn, longer = rng.uniform(0, np.pi), rng.uniform(1, 1.6)
    u, v = np.cos(turn) * x + np.sin(turn) * y, (np.cos(turn) * y - np.sin(turn) * x) * longer
    angle = np.arctan2(v, u)
    waves = (rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 7))
    return np.asarray(rng.uniform(0.16, 0.32) * (1 + sum(waves)) - np.hypot(u, v))


def _hairs(rng: Generator, x: Array, y: Array) -> NDArray[np.bool_]:
    """Thin arcs across the picture, in two of three pictures."""
    hairs = np.zeros(x.shape, dtype=np.bool_)
    for _ in range(rng.integers(0, 3) * rng.integers(2, 6)):
        radius, angle = rng.uniform(0.6, 2.0), rng.uniform(0, 2 * np.pi)
        near = radius + rng.uniform(-0.4, 0.4)
        distance = np.hypot(x - near * np.cos(angle), y - near * np.sin(angle)) - radius
        hairs |= np.abs(distance) < rng.uniform(0.003, 0.007)
    return hairs


def _light(rng: Generator, x: Array, y: Array) -> Array:
    """Brightness that falls off to one side and to the corners, and a tint."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = 1 + rng.uniform(0, 0.25) * (np.cos(angle) * x + np.sin(angle) * y)
    fall = 1 - rng.uniform(0.1, 0.5) * (x**2 + y**2)
    return np.asarray((slope * fall * rng.uniform(0.85, 1.1))[..., None] * rng.uniform(0.94, 1.06, 3))


def _mottled(rng: Generator, shape: tuple[int, ...], width: float) -> Array:
    """Smooth noise with a standard deviation of about 1."""
    noise = ndimage.gaussian_filter(rng.normal(size=shape), width)
    return np.asarray(noise / noise.std())


def _write(path: Path, pixels: NDArray[np.uint8]) -> Path:
    with atomic_path(path) as temporary:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=pixels.ndim == 3), temporary, True)
    return path
