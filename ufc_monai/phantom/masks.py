"""Masks of a shape without images: vessels, trees that branch and narrow; lungs and heart as an X-ray shows them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ufc_monai.base.errors import InputError
from ufc_monai.phantom.chest import LUNG, STRUCTURES
from ufc_monai.phantom.ct import draw_patient, render
from ufc_monai.phantom.shapes import Mask

NUMBER = 64
"""Masks of a shape; a training turns and crops them."""
STEP = 1 / 128
"""Between two points of a vessel. All lengths of vessels are shares of a mask's side."""
THINNEST = 0.009
"""Radius at which a vessel ends."""
ROOTS = (0.015, 0.05)
"""Range of the radius with which a tree enters the picture."""
LONGEST = 4000
"""Points of a tree at most."""
COARSE = 40
"""Voxels along the sides of the patient that is looked at from the front."""
SEEN = {"lungs": 0.25, "heart": 0.1}
"""The share of the chest's depth that is of a structure where a frontal picture shows it."""
VESSELS_APART = ("aorta", "pulmonary_artery")
"""Structures that are not of the heart's outline."""


def shape_masks(shape: str, size: int, seed: int = 0, number: int = NUMBER) -> Tensor:
    """Draw masks of a shape.

    Args:
        shape: ``"vessels"``, or ``"lungs"`` or ``"heart"`` of a frontal X-ray.
        size: side of a mask in pixels.
        seed: the same seed draws the same masks.
        number: of masks.

    Returns:
        (number, 1, size, size), 0 or 1, indexed (x, y) like slices: x grows to the right of the patient, y to the front
        of a slice or to the head of a frontal picture.

    Raises:
        InputError: at another shape.
    """
    if shape not in ("vessels", "lungs", "heart"):
        raise InputError(
            f"shape must be vessels, lungs or heart, got {shape!r}. Masks of another shape are taken from the folder "
            "shape_dir."
        )
    masks = np.empty((number, 1, size, size), np.float32)
    for n in range(number):
        rng = np.random.default_rng([seed, n])
        masks[n, 0] = vessel_mask(rng, size) if shape == "vessels" else frontal_masks(rng, size)[shape]
    return torch.from_numpy(masks)


def vessel_mask(rng: np.random.Generator, size: int) -> Mask:
    """One to three trees that enter a picture of ``size`` x ``size`` pixels from its border."""
    mask = np.zeros((size, size), np.bool_)
    for _ in range(rng.integers(1, 4)):
        side, along = rng.integers(4), rng.uniform()
        x, y = [(0.0, along), (1.0, along), (along, 0.0), (along, 1.0)][side]
        inward = np.arctan2(0.5 - y, 0.5 - x) + rng.normal(0, 0.4)
        paint_tree(mask, grow_tree(rng, (x, y), inward, rng.uniform(*ROOTS)))
    return mask


def grow_tree(
    rng: np.random.Generator, root: tuple[float, float], heading: float, radius: float
) -> list[NDArray[np.float64]]:
    """Grow a tree in the unit square.

    A vessel winds, since its curvature wanders; it narrows by about a third along the square's side. Where it forks,
    the cubes of the two radii add up to that of the one (Murray's law), and the thinner one turns more.

    Args:
        rng: what is drawn from.
        root: where it begins, x and y.
        heading: where to, radians.
        radius: of its first point.

    Returns:
        Its vessels, the one from the root first, each with rows of x, y and radius; every other one begins at a point
        of one before.
    """
    buds, vessels, points = [(*root, heading, radius)], [], 0
    while buds and points < LONGEST:
        x, y, angle, r = buds.pop(0)
        vessel, curvature = [(x, y, r)], 0.0
        while r >= THINNEST and -r <= x <= 1 + r and -r <= y <= 1 + r and points < LONGEST:
            curvature = 0.9 * curvature + rng.normal(0, 0.012)
            angle += curvature
            x, y, r = x + STEP * np.cos(angle), y + STEP * np.sin(angle), r * 0.997
            vessel.append((x, y, r))
            points += 1
            if rng.random() < 0.02:
                share, turn = rng.uniform(0.5, 0.95), rng.choice((-1, 1)) * rng.uniform(0.5, 1.2)
                buds.append((x, y, angle - turn * share, r * (1 - share) ** (1 / 3)))
                angle, r = angle + turn * (1 - share), r * share ** (1 / 3)
        vessels.append(np.array(vessel))
    return vessels


def paint_tree(mask: Mask, vessels: list[NDArray[np.float64]]) -> None:
    """Set the pixels of a mask of the unit square that lie on a tree, and one about each of its points at least."""
    size = len(mask)
    x, y, r = (np.concatenate(vessels) * size).T[..., None, None]
    r = np.maximum(r, 0.75)
    reach = np.arange(-np.ceil(r.max()), np.ceil(r.max()) + 1)
    columns, rows = np.floor(x) + reach[:, None], np.floor(y) + reach
    near = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= r**2
    within = near & (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    columns, rows = (np.broadcast_to(axis, near.shape)[within].astype(int) for axis in (columns, rows))
    mask[columns, rows] = True


def frontal_masks(rng: np.random.Generator, size: int) -> dict[str, Mask]:
    """Lungs and heart of a synthetic patient, seen from the front, each (size, size) indexed (x, z).

    Lungs are where rays pass enough lung, so that the heart's shadow is none. The phantom's chest is open at the top:
    a dome closes each lung.
    """
    patient = draw_patient(rng, COARSE)
    chest, rows = patient.chest, COARSE // 2
    side = 2 * chest.width * rng.uniform(1.0, 1.2)
    mm, depth = side / COARSE, 2 * chest.depth / rows
    x = (np.arange(COARSE) + 0.5) * mm - side / 2 + rng.uniform(-8, 8)
    z = (np.arange(COARSE) + 0.5) * mm - side / 2 + chest.size * (30 + rng.uniform(-10, 10))
    seen = patient._replace(
        matrix=(COARSE, rows, COARSE),
        spacing=(mm, depth, mm),
        origin=(x[0], chest.middle - chest.depth, z[0]),
        noise=0.0,
        stray=False,
    )
    hu, label = render(seen, rng)
    top, apex = 40 * chest.size, rng.uniform(115, 150) * chest.size
    dome = np.clip(1 - ((z - top).clip(0) / (apex - top)) ** 2, 0, 1) ** 0.5
    closed = np.abs(np.abs(x)[:, None] - 0.45 * chest.width) < 0.55 * chest.width * dome
    lung = (np.abs(hu - LUNG) < 100) & closed[:, None]
    heart = np.isin(label, [s.id for name, s in STRUCTURES.items() if name not in VESSELS_APART])
    larger = {"zoom": size / COARSE, "order": 1, "mode": "nearest", "grid_mode": True}
    smooth = {
        name: ndimage.gaussian_filter(inside.mean(axis=1), 1) for name, inside in (("lungs", lung), ("heart", heart))
    }
    return {name: ndimage.zoom(share, **larger) > SEEN[name] for name, share in smooth.items()}
