"""Ellipsoids and tubes on a grid of coordinates, for the phantom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Ellipsoid", "Grid", "Mask", "Point", "ramp", "rotated", "tube"]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Grid = tuple[Array, Array, Array]
"""Coordinates x, y, z in mm that broadcast to the shape of the volume."""
Point = tuple[float, float, float]
UPRIGHT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid: its centre, half axes, and the unit vectors that these lie along."""

    centre: Point
    half: Point
    axes: tuple[Point, Point, Point] = UPRIGHT

    def grown(self, by: float) -> Ellipsoid:
        """The ellipsoid with half axes longer by ``by``."""
        x, y, z = self.half
        return Ellipsoid(self.centre, (x + by, y + by, z + by), self.axes)

    def along(self, grid: Grid) -> Grid:
        """Coordinates from the centre along the axes."""
        moved = tuple(g - np.float32(c) for g, c in zip(grid, self.centre, strict=True))
        return rotated((moved[0], moved[1], moved[2]), np.array(self.axes))

    def at(self, grid: Grid) -> Array:
        """Less than 1 inside, 1 on the surface, in proportion to the distance from the centre."""
        x, y, z = (g / np.float32(h) for g, h in zip(self.along(grid), self.half, strict=True))
        distance: Array = np.sqrt(x * x + y * y + z * z)
        return distance


def rotated(grid: Grid, matrix: NDArray[np.float64]) -> Grid:
    """The grid's coordinates times ``matrix``, (3, 3)."""
    x, y, z = grid
    a, b, c = (row[0] * x + row[1] * y + row[2] * z for row in matrix.astype(np.float32))
    return a, b, c


def tube(grid: Grid, points: Sequence[Point], radius: float, *, end_radius: float | None = None) -> Mask:
    """What lies within ``radius`` of the line through ``points``, narrowing to ``end_radius`` on each piece of it."""
    end_radius = radius if end_radius is None else end_radius
    inside = np.zeros(np.broadcast_shapes(*(g.shape for g in grid)), dtype=np.bool_)
    for start, end in pairwise(np.asarray(points, dtype=np.float32)):
        way = end - start
        x, y, z = (g - s for g, s in zip(grid, start, strict=True))
        t = np.clip((x * way[0] + y * way[1] + z * way[2]) / (way @ way), 0, 1)
        distance = (x - t * way[0]) ** 2 + (y - t * way[1]) ** 2 + (z - t * way[2]) ** 2
        inside |= distance < (radius + t * np.float32(end_radius - radius)) ** 2
    return inside


def ramp(z: Array, start: float, end: float) -> Array:
    """0 up to ``start``, 1 from ``end`` on, linear between."""
    height: Array = np.clip((z - np.float32(start)) / np.float32(end - start), 0, 1)
    return height
