"""The heart of a patient of size 1, before it is posed; lengths in mm.

Coordinates are RAS: x to the patient's right, y to the front, z to the head; 0 is in the heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ufc_monai.phantom.shapes import Ellipsoid, Point, Tube

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
