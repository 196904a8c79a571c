"""What surrounds the phantom's heart: chest wall, lungs, bones, great vessels, the upper abdomen, the couch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ufc_monai.data.phantom_shapes import Array, Ellipsoid, Grid, Mask, Point, ramp, tube

__all__ = ["CHEST_WALL", "Chest", "paint_chest"]

AIR, LUNG, FAT, FLUID, MUSCLE, COUCH, MARROW, BONE = -1000.0, -850.0, -100.0, 20.0, 50.0, 120.0, 190.0, 450.0
CHEST_WALL = 14.0
"""Thickness of muscle and ribs, mm."""


@dataclass(frozen=True)
class Chest:
    """The body around a heart; lengths in mm.

    Attributes:
        size: of the heart; heights grow with it.
        width: half width of the chest cavity.
        depth: half its depth.
        middle: y of its centre.
        fat: thickness under the skin.
        liver: its contrast, Hounsfield units.
        left_blood: contrast of the aorta and what feeds it.
        right_blood: contrast of the pulmonary artery and what feeds it.
    """

    size: float
    width: float
    depth: float
    middle: float
    fat: float
    liver: float
    left_blood: float
    right_blood: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: float) -> Chest:
        """Draw a chest that a heart of this size fits into."""
        depth = 80 * size + float(rng.uniform(6, 14))
        width = float(rng.uniform(112, 130)) * size**0.5
        return cls(
            size=size,
            width=width,
            depth=depth,
            middle=62 * size + 10 - depth,
            fat=float(rng.uniform(8, 24)),
            liver=float(rng.uniform(60, 110)),
            left_blood=float(rng.uniform(270, 430)),
            right_blood=float(rng.uniform(130, 380)),
        )

    @property
    def spine(self) -> float:
        """The y of the vertebral bodies' centre."""
        return self.middle - self.depth + 34


def paint_chest(
    grid: Grid, chest: Chest, heart: Mask, veins: Mask, arch: Point, rng: np.random.Generator
) -> tuple[Array, Mask]:
    """Paint everything but the heart.

    Args:
        grid: coordinates in mm.
        chest: whose.
        heart: where the heart will be.
        veins: the pulmonary veins.
        arch: where the aortic arch begins.
        rng: for the vessels of the lungs.

    Returns:
        Hounsfield units, and what the heart must leave free: spine, airways and descending aorta.
    """
    hu, inner = _wall(grid, chest)
    _ribs(grid, chest, hu, inner)
    _lungs(grid, chest, hu, inner, rng)
    _abdomen(grid, chest, hu, inner)
    vessels = _great_vessels(grid, chest, arch)
    airways = _airways(grid, chest)
    hu[_mediastinum(grid, chest, [heart, airways, *(mask for mask, _ in vessels)]) & (inner < 1) & (hu < MUSCLE)] = FAT
    hu[veins & (inner < 1)] = chest.left_blood
    for mask, value in vessels:
        hu[mask & (inner < 1)] = value
    hu[airways] = AIR
    bones = _spine(grid, chest, hu)
    return hu, bones | airways | vessels[0][0]


def _mediastinum(grid: Grid, c: Chest, organs: list[Mask]) -> Mask:
    """The organs, the wall between the lungs, and about a centimetre around them."""
    wall = np.abs(grid[0]) < 9 + 12 * ramp(grid[2], 20 * c.size, 60 * c.size)
    core = np.logical_or.reduce(organs) | wall
    sigma = [mm / np.ptp(g.ravel()[:2]) for mm, g in zip((10, 10, 6), grid, strict=True)]
    inside: Mask = ndimage.gaussian_filter(core.astype(np.float32), sigma) > 0.18
    return inside


def _oval(x: Array, y: Array, half_x: float | Array, half_y: float) -> Array:
    """1 on an ellipse with somewhat square shoulders, less inside."""
    distance: Array = (np.abs(x / half_x) ** 2.4 + np.abs(y / half_y) ** 2.4) ** np.float32(1 / 2.4)
    return distance


def _wall(grid: Grid, c: Chest) -> tuple[Array, Array]:
    """Skin to ribs; also returns how far out of the chest cavity a voxel lies (1 is its border)."""
    x, y, z = grid[0], grid[1] - np.float32(c.middle), grid[2] / np.float32(c.size)
    shoulder = ramp(z, 30, 110)
    inner = _oval(x, y, c.width * (1 - 0.36 * shoulder), c.depth)
    outer = c.width + CHEST_WALL, c.depth + CHEST_WALL
    skin = _oval(x, y, (outer[0] + c.fat) * (1 + 0.12 * shoulder), outer[1] + c.fat)
    hu = np.full(inner.shape, AIR, dtype=np.float32)
    hu[skin < 1] = FAT
    hu[_oval(x, y, outer[0] * (1 + 0.12 * shoulder), outer[1]) < 1] = MUSCLE
    couch = (np.abs(y + outer[1] + c.fat + 7 - 0.0008 * x**2) < 3.5) & (np.abs(x) < outer[0] * 1.1)
    hu[couch & (skin > 1.01)] = COUCH
    return hu, inner


def _ribs(grid: Grid, c: Chest, hu: Array, inner: Array) -> None:
    """Ribs, sternum and shoulder blades."""
    x, y, z = grid[0], grid[1] - np.float32(c.middle), grid[2] / np.float32(c.size)
    # ribs go down from the back, where the angle is 0, to the front, and end in cartilage
    angle = np.arctan2(np.abs(x), -y)
    ribs = (np.abs(inner - 1.05) < 0.045) & (np.sin((z + 34 * angle) * 2 * np.pi / 23) > 0.35)
    hu[ribs] = np.broadcast_to(np.where(angle > 2.55, 110, BONE * 0.85), ribs.shape)[ribs]
    sternum = (x / 17) ** 2 + ((y - c.depth - 6) / 6.5) ** 2 < 1
    hu[sternum & (z > -48)] = BONE * 0.6
    ends: list[Point] = [(c.width * 0.55, -c.depth * 0.98, 0), (c.width * 0.98, -c.depth * 0.5, 0)]
    blades = tube((np.abs(x), y, np.zeros_like(z)), ends, 5)
    hu[blades & (inner > 1.1) & (z > 35)] = BONE * 0.8


def _lungs(grid: Grid, c: Chest, hu: Array, inner: Array, rng: np.random.Generator) -> None:
    """Lungs, with vessels that fan out from each hilum and narrow."""
    hu[inner < 1] = LUNG
    for side in (-1, 1):
        root = (side * 34.0 * c.size, -28.0 * c.size, 30.0 * c.size)
        for angle in rng.uniform(-np.pi, np.pi, 12):
            reach = rng.uniform(0.6, 0.92)
            tip = (
                side * c.width * reach * (0.45 + 0.5 * rng.random()),
                c.middle + c.depth * reach * np.cos(angle) * 0.85,
                (30 + 85 * np.sin(angle)) * c.size,
            )
            hu[tube(grid, [root, tip], 6.0, end_radius=2.4) & (inner < 0.97)] = FLUID


def _abdomen(grid: Grid, c: Chest, hu: Array, inner: Array) -> None:
    """The liver's dome on the right, stomach and spleen on the left."""
    x, y, z = grid[0], grid[1], grid[2] / np.float32(c.size)
    right = 58 * np.exp(-(((x - 52) / 62) ** 2) - ((y + 8) / 70) ** 2)
    left = 36 * np.exp(-(((x + 60) / 55) ** 2) - ((y + 8) / 70) ** 2)
    below = (inner < 1) & (z < np.maximum(right, left) - 78)
    hu[below] = FAT
    liver = Ellipsoid((46, 2, -105), (c.width * 0.8, 92, 82)).at((x, y, z)) < 1
    hu[below & liver & (inner < 0.97)] = c.liver
    spleen = Ellipsoid((-c.width * 0.68, -48, -86), (26, 40, 40)).at((x, y, z)) < 1
    hu[below & spleen & (inner < 0.97)] = c.liver + 25
    stomach = Ellipsoid((-56, 18, -88), (40, 40, 38)).at((x, y, z))
    hu[below & (stomach < 1)] = MUSCLE
    content = np.broadcast_to(np.where(y > 28, AIR + 50, FLUID), below.shape)
    lumen = below & (stomach < 0.88)
    hu[lumen] = content[lumen]


def _great_vessels(grid: Grid, c: Chest, arch: Point) -> list[tuple[Mask, float]]:
    """Masks and contrast, first of the descending aorta, then of the arch, the venae cavae and the oesophagus."""
    s, back = c.size, c.spine + 21
    top = (-22.0, back, 58 * s)
    crown = ((arch[0] - 22) / 2 + 4, (arch[1] + back) / 2, max(arch[2], 58 * s) + 14 * s)
    neck = [(crown[0] + dx, crown[1] + dy, crown[2] + 120) for dx, dy in ((8, 10), (-4, 0), (-12, -8))]
    branches = [tube(grid, [(p[0], p[1], crown[2]), p], 5) for p in neck]
    upper: list[Point] = [(34 * s, -2, 15 * s), (32 * s, 0, 200)]
    lower: list[Point] = [(30 * s, -12 * s, -20 * s), (24 * s, -20 * s, -60 * s), (22, -20 * s, -200)]
    return [
        (tube(grid, [top, (-22, back, -200)], 11), c.left_blood),
        (np.logical_or.reduce([tube(grid, [arch, crown, top], 12), *branches]), c.left_blood),
        (tube(grid, upper, 9), c.right_blood + 30),
        (tube(grid, lower, 11), 0.4 * c.right_blood + 60),
        (tube(grid, [(-3, back + 1, -200), (-3, back + 1, 200)], 6), MUSCLE - 10),
    ]


def _airways(grid: Grid, c: Chest) -> Mask:
    """The trachea and the main bronchi."""
    y, z = c.spine + 34, 56 * c.size
    carina = (1.0, y, z)
    bronchi: list[Point] = [(38 * c.size, y - 6, z - 24), carina, (-40 * c.size, y - 6, z - 22)]
    return tube(grid, bronchi, 5.5) | tube(grid, [carina, (1, y, 300)], 8)


def _spine(grid: Grid, c: Chest, hu: Array) -> Mask:
    """Paint vertebrae between discs, and the muscles beside them; returns the mask."""
    x, y, z = grid[0], grid[1] - np.float32(c.spine), grid[2]
    body = np.sqrt((x / 20) ** 2 + (y / 15) ** 2) + 0 * z
    arch = np.sqrt((x / 17) ** 2 + ((y + 24) / 14) ** 2) + 0 * z
    processes = ((np.abs(x) < 3.5) & (y < -36) & (y > -56)) | ((np.abs(x) < 36) & (np.abs(y + 27) < 5))
    muscle = np.sqrt(((np.abs(x) - 26) / 28) ** 2 + ((y + 32) / 22) ** 2) + 0 * z < 1
    bone = (body < 1) | (arch < 1)
    disc = np.cos(z * 2 * np.pi / 26) > 0.8
    hu[muscle | (np.sqrt((x / 25) ** 2 + (y / 19) ** 2) + 0 * z < 1) & (hu < FLUID)] = MUSCLE
    hu[arch < 1] = BONE * 0.8
    hu[processes & ~disc & (hu > FAT)] = BONE * 0.7
    hu[body < 1] = np.where(body[body < 1] > 0.84, BONE, MARROW)
    hu[(body < 1) & disc] = 95
    hu[np.sqrt((x / 9) ** 2 + ((y + 24) / 7.5) ** 2) + 0 * z < 1] = 30
    return bone
