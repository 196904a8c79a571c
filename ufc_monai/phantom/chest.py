"""The heart of a patient of size 1, in mm, and what is around it: chest wall, lungs, bones, great vessels, couch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ufc_monai.phantom.shapes import Array, Ellipsoid, Grid, Mask, Point, Tube, ellipse, paint, ramp, union

# The ventricles' long axis points to the apex: to the left, the front and the feet; the second axis from the left
# ventricle to the right one. Along the long axis they end at their valves, measured from the left one's centre.
AXES = ((-0.660, 0.580, -0.478), (0.656, 0.755, 0.010), (0.367, -0.307, -0.878))
MIDDLE: Point = (-36, 4, -18)
LEFT_VENTRICLE = Ellipsoid(MIDDLE, (42, 23, 23), AXES, cut=(MIDDLE, -25))
WALL = LEFT_VENTRICLE._replace(half=(51, 32, 32))  # 9 mm thick
RIGHT_VENTRICLE = Ellipsoid((-15, 24, -18), (46, 25, 34), AXES, cut=(MIDDLE, -42))
OUTFLOW = Tube([(-12, 28, -14), (-20, 34, 8)], 15)
AORTA = Tube([(-11, 0, 2), (4, 9, 20), (15, 12, 38), (15, 6, 52)], 14)
TRUNK = Tube([(-20, 35, 12), (-22, 32, 28), (-17, 16, 42), (-14, 2, 46)], 13)
BRANCHES: list[Point] = [(52, -24, 38), (28, -17, 43), (6, -11, 45), (-14, 2, 46), (-34, -20, 47), (-54, -32, 45)]
VEINS = [
    Tube([(s * 26 - 7, -38, z), (s * 66 - 7, -46, z + rise)], 7) for s in (-1, 1) for z, rise in ((20, 10), (6, -12))
]

AIR, LUNG, FAT, FLUID, MUSCLE, COUCH, MARROW, BONE = -1000.0, -850.0, -100.0, 20.0, 50.0, 120.0, 190.0, 450.0
CHEST_WALL = 14.0
"""Thickness of muscle and ribs, mm."""


class Structure(NamedTuple):
    """A labelled structure: its id in MMWHS' label files, whose contrast it has (one of three), and its shapes."""

    id: int
    contrast: str
    shapes: Sequence[Ellipsoid | Tube]


STRUCTURES = {
    "right_ventricle": Structure(600, "right blood", [RIGHT_VENTRICLE, OUTFLOW]),
    "right_atrium": Structure(550, "right blood", [Ellipsoid((34, -3, -4), (25, 27, 30))]),
    "left_atrium": Structure(420, "left blood", [Ellipsoid((-7, -37, 12), (32, 20, 23))]),
    "pulmonary_artery": Structure(850, "right blood", [TRUNK, Tube(BRANCHES, 9)]),
    "aorta": Structure(820, "left blood", [AORTA]),
    "myocardium": Structure(205, "myocardium", [WALL]),
    "left_ventricle": Structure(500, "left blood", [LEFT_VENTRICLE]),
}
"""Later ones cover earlier ones."""
STRAY_LABEL = 421
"""An id that occurs by mistake in a few voxels of the real data, next to 420."""


class Chest(NamedTuple):
    """The body around a heart; lengths in mm.

    Attributes:
        size: of the heart; heights grow with it.
        width: half width of the chest cavity.
        depth: half its depth.
        middle: y of its centre.
        fat: thickness under the skin.
        liver: its contrast, Hounsfield units.
        left_blood: contrast of the aorta and the chambers that feed it.
        right_blood: contrast of the pulmonary artery and the chambers that feed it.
    """

    size: float
    width: float
    depth: float
    middle: float
    fat: float
    liver: float
    left_blood: float
    right_blood: float

    @property
    def spine(self) -> float:
        """The y of the vertebral bodies' centre."""
        return self.middle - self.depth + 34


def draw_chest(rng: np.random.Generator, size: float) -> Chest:
    """Draw a chest that a heart of this size fits into."""
    depth = 80 * size + rng.uniform(6, 14)
    width = rng.uniform(112, 130) * size**0.5
    fat, liver, left, right = (rng.uniform(*span) for span in ((8, 24), (60, 110), (270, 430), (130, 380)))
    return Chest(size, width, depth, 62 * size + 10 - depth, fat, liver, left, right)


def paint_chest(
    grid: Grid, chest: Chest, heart: Mask, veins: Mask, arch: Point, rng: np.random.Generator
) -> tuple[Array, Mask]:
    """Paint everything but the heart.

    Args:
        grid: coordinates in mm.
        chest: the body to paint.
        heart: where the heart will be.
        veins: the pulmonary veins.
        arch: where the aortic arch begins.
        rng: for the vessels of the lungs.

    Returns:
        Hounsfield units, and where the heart may not be: spine, airways and descending aorta.
    """
    hu, inner = _wall(grid, chest)
    cavity = inner < 1
    _ribs(grid, chest, hu, inner)
    paint(hu, (cavity, LUNG), (_lung_vessels(grid, chest, rng) & (inner < 0.97), FLUID))
    _abdomen(grid, chest, hu, inner)
    tubes = [(union(tube.inside(grid) for tube in tubes), value) for value, tubes in _tubes(chest, arch)]
    (aorta, _), *_, (airways, _) = tubes
    between_lungs = _mediastinum(grid, chest, [heart, *(mask for mask, _ in tubes)])
    paint(hu, (between_lungs & cavity & (hu < MUSCLE), FAT), (veins & cavity, chest.left_blood))
    paint(hu, *((mask & cavity, value) for mask, value in tubes), (airways, AIR))
    return hu, _spine(grid, chest, hu) | airways | aorta


def _mediastinum(grid: Grid, c: Chest, organs: list[Mask]) -> Mask:
    """The organs, the wall between the lungs, and about a centimetre around them."""
    wall = np.abs(grid[0]) < 9 + 12 * ramp(grid[2], 20 * c.size, 60 * c.size)
    sigma = [mm / np.ptp(g.ravel()[:2]) for mm, g in zip((10, 10, 6), grid, strict=True)]
    return np.asarray(ndimage.gaussian_filter((union(organs) | wall).astype(np.float32), sigma) > 0.18)


def _oval(x: Array, y: Array, half_x: float | Array, half_y: float) -> Array:
    """1 on an ellipse with somewhat square shoulders, less inside."""
    return np.asarray((np.abs(x / half_x) ** 2.4 + np.abs(y / half_y) ** 2.4) ** np.float32(1 / 2.4))


def _wall(grid: Grid, c: Chest) -> tuple[Array, Array]:
    """Skin to ribs; also returns how far out of the chest cavity a voxel lies (1 is its border)."""
    x, y, z = grid[0], grid[1] - np.float32(c.middle), grid[2] / np.float32(c.size)
    shoulder = ramp(z, 30, 110)
    inner = _oval(x, y, c.width * (1 - 0.36 * shoulder), c.depth)
    width, depth, wider = c.width + CHEST_WALL, c.depth + CHEST_WALL, 1 + 0.12 * shoulder
    skin = _oval(x, y, (width + c.fat) * wider, depth + c.fat)
    couch = (np.abs(y + depth + c.fat + 7 - 0.0008 * x**2) < 3.5) & (np.abs(x) < width * 1.1)
    hu = np.full(inner.shape, AIR, dtype=np.float32)
    paint(hu, (skin < 1, FAT), (_oval(x, y, width * wider, depth) < 1, MUSCLE), (couch & (skin > 1.01), COUCH))
    return hu, inner


def _ribs(grid: Grid, c: Chest, hu: Array, inner: Array) -> None:
    """Ribs, sternum and shoulder blades."""
    x, y, z = grid[0], grid[1] - np.float32(c.middle), grid[2] / np.float32(c.size)
    # ribs go down from the back, where the angle is 0, to the front, and end in cartilage
    angle = np.arctan2(np.abs(x), -y)
    ribs = (np.abs(inner - 1.05) < 0.045) & (np.sin((z + 34 * angle) * 2 * np.pi / 23) > 0.35)
    blades = Tube([(c.width * 0.55, -c.depth * 0.98, 0), (c.width * 0.98, -c.depth * 0.5, 0)], 5)
    paint(
        hu,
        (ribs, np.where(angle > 2.55, 110, BONE * 0.85)),
        ((ellipse(x, y - c.depth - 6, 17, 6.5) < 1) & (z > -48), BONE * 0.6),
        (blades.inside((np.abs(x), y, np.zeros_like(z))) & (inner > 1.1) & (z > 35), BONE * 0.8),
    )


def _lung_vessels(grid: Grid, c: Chest, rng: np.random.Generator) -> Mask:
    """Vessels that fan out from each hilum and narrow."""
    vessels = []
    for side in (-1, 1):
        root = (side * 34.0 * c.size, -28.0 * c.size, 30.0 * c.size)
        for angle in rng.uniform(-np.pi, np.pi, 12):
            reach = rng.uniform(0.6, 0.92)
            tip = (
                side * c.width * reach * (0.45 + 0.5 * rng.random()),
                c.middle + c.depth * reach * np.cos(angle) * 0.85,
                (30 + 85 * np.sin(angle)) * c.size,
            )
            vessels.append(Tube([root, tip], 6.0, end_radius=2.4).inside(grid))
    return union(vessels)


def _abdomen(grid: Grid, c: Chest, hu: Array, inner: Array) -> None:
    """The liver's dome on the right, stomach and spleen on the left."""
    x, y, z = upright = grid[0], grid[1], grid[2] / np.float32(c.size)
    right = 58 * np.exp(-(((x - 52) / 62) ** 2) - ((y + 8) / 70) ** 2)
    left = 36 * np.exp(-(((x + 60) / 55) ** 2) - ((y + 8) / 70) ** 2)
    below = (inner < 1) & (z < np.maximum(right, left) - 78)
    well_inside = below & (inner < 0.97)
    liver = Ellipsoid((46, 2, -105), (c.width * 0.8, 92, 82))
    spleen = Ellipsoid((-c.width * 0.68, -48, -86), (26, 40, 40))
    stomach = Ellipsoid((-56, 18, -88), (40, 40, 38))
    paint(
        hu,
        (below, FAT),
        (well_inside & liver.inside(upright), c.liver),
        (well_inside & spleen.inside(upright), c.liver + 25),
        (below & stomach.inside(upright), MUSCLE),
        (below & stomach.inside(upright, 0.88), np.where(y > 28, AIR + 50, FLUID)),
    )


def _tubes(c: Chest, arch: Point) -> list[tuple[float, list[Tube]]]:
    """Descending aorta, arch, venae cavae, oesophagus and airways, each with its Hounsfield units."""
    s, y, front, z = c.size, c.spine + 21, c.spine + 34, 56 * c.size
    top, carina = (-22.0, y, 58 * s), (1.0, front, z)
    crown = ((arch[0] - 22) / 2 + 4, (arch[1] + y) / 2, max(arch[2], 58 * s) + 14 * s)
    neck = [(crown[0] + dx, crown[1] + dy, crown[2]) for dx, dy in ((8, 10), (-4, 0), (-12, -8))]
    lower: list[Point] = [(30 * s, -12 * s, -20 * s), (24 * s, -20 * s, -60 * s), (22, -20 * s, -200)]
    bronchi = Tube([(38 * s, front - 6, z - 24), carina, (-40 * s, front - 6, z - 22)], 5.5)
    return [
        (c.left_blood, [Tube([top, (-22, y, -200)], 11)]),
        (c.left_blood, [Tube([arch, crown, top], 12), *(Tube([p, (p[0], p[1], p[2] + 120)], 5) for p in neck)]),
        (c.right_blood + 30, [Tube([(34 * s, -2, 15 * s), (32 * s, 0, 200)], 9)]),
        (0.4 * c.right_blood + 60, [Tube(lower, 11)]),
        (MUSCLE - 10, [Tube([(-3, y + 1, -200), (-3, y + 1, 200)], 6)]),
        (AIR, [bronchi, Tube([carina, (1, front, 300)], 8)]),
    ]


def _spine(grid: Grid, c: Chest, hu: Array) -> Mask:
    """Paint vertebrae between discs, and the muscles beside them; returns the mask."""
    x, y, z = grid[0], grid[1] - np.float32(c.spine), grid[2]
    body, arch = ellipse(x, y, 20, 15), ellipse(x, y + 24, 17, 14) < 1
    processes = ((np.abs(x) < 3.5) & (y < -36) & (y > -56)) | ((np.abs(x) < 36) & (np.abs(y + 27) < 5))
    muscle = ellipse(np.abs(x) - 26, y + 32, 28, 22) < 1
    disc = np.cos(z * 2 * np.pi / 26) > 0.8
    paint(hu, (muscle | (ellipse(x, y, 25, 19) < 1) & (hu < FLUID), MUSCLE), (arch, BONE * 0.8))
    paint(
        hu,
        (processes & ~disc & (hu > FAT), BONE * 0.7),
        (body < 1, np.where(body > 0.84, BONE, MARROW)),
        ((body < 1) & disc, 95),
        (ellipse(x, y + 24, 9, 7.5) < 1, 30),
    )
    return (body < 1) | arch
