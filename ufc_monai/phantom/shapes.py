"""Ellipsoids and tubes on a grid of coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Grid = tuple[Array, ...]
"""Coordinates x, y, z in mm that broadcast to the shape of the volume."""
Point = tuple[float, float, float]


class Ellipsoid(NamedTuple):
    """An ellipsoid, perhaps with one end cut off; lengths in mm.

    Attributes:
        centre: its centre.
        half: its half axes.
        axes: the unit vectors along which they lie.
        cut: a point, and how far from it along the first axis the ellipsoid begins.
    """

    centre: Point
    half: Point
    axes: tuple[Point, Point, Point] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    cut: tuple[Point, float] = ((0.0, 0.0, 0.0), -math.inf)

    def inside(self, grid: Grid, share: float = 1.0) -> Mask:
        """Whether voxels lie within the ellipsoid, its half axes scaled by ``share``."""
        axes, (point, begin) = np.array(self.axes), self.cut
        x, y, z = (g / np.float32(h) for g, h in zip(rotated(moved(grid, self.centre), axes), self.half, strict=True))
        return np.asarray((np.sqrt(x * x + y * y + z * z) < share) & (rotated(moved(grid, point), axes)[0] > begin))

    def spheres(self, up: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Height of the centre along ``up``, a unit vector, and how far the uncut ellipsoid rises above it."""
        return [(float(up @ self.centre), float(np.linalg.norm(np.array(self.axes) @ up * self.half)))]


class Tube(NamedTuple):
    """A tube along the line through ``points``; each piece narrows from ``radius`` to ``end_radius``."""

    points: Sequence[Point]
    radius: float
    end_radius: float | None = None

    def inside(self, grid: Grid) -> Mask:
        """Whether voxels lie within the tube."""
        narrowing = 0 if self.end_radius is None else self.end_radius - self.radius
        mask = np.zeros(np.broadcast_shapes(*(g.shape for g in grid)), dtype=np.bool_)
        for start, end in pairwise(np.asarray(self.points, dtype=np.float32)):
            way = end - start
            x, y, z = moved(grid, start)
            t = np.clip((x * way[0] + y * way[1] + z * way[2]) / (way @ way), 0, 1)
            distance = (x - t * way[0]) ** 2 + (y - t * way[1]) ** 2 + (z - t * way[2]) ** 2
            mask |= distance < (self.radius + t * np.float32(narrowing)) ** 2
        return mask

    def spheres(self, up: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Height of each point along ``up``, a unit vector, and how far the tube rises above it."""
        return [(float(up @ point), self.radius) for point in self.points]


def union(masks: Iterable[Mask]) -> Mask:
    """Where any of the masks is."""
    return np.asarray(np.logical_or.reduce(list(masks)))


def moved(grid: Grid, origin: Iterable[float]) -> Grid:
    """The grid's coordinates relative to ``origin``."""
    return tuple(g - np.float32(o) for g, o in zip(grid, origin, strict=True))


def rotated(grid: Grid, matrix: NDArray[np.float64]) -> Grid:
    """The grid's coordinates times ``matrix``, (3, 3)."""
    x, y, z = grid
    return tuple(row[0] * x + row[1] * y + row[2] * z for row in matrix.astype(np.float32))


def ellipse(x: Array, y: Array, half_x: float, half_y: float) -> Array:
    """Less than 1 inside of an ellipse about 0, 1 on it, in proportion to the distance from its centre."""
    return np.asarray(np.sqrt((x / half_x) ** 2 + (y / half_y) ** 2))


def ramp(z: Array, start: float, end: float) -> Array:
    """0 up to ``start``, 1 from ``end`` on, linear between."""
    return np.asarray(np.clip((z - np.float32(start)) / np.float32(end - start), 0, 1))


def paint(hu: Array, *layers: tuple[Mask, ArrayLike]) -> None:
    """Paint layers, each a mask and its Hounsfield units, later ones over earlier ones."""
    for where, value in layers:
        np.copyto(hu, value, where=where)
