"""The anatomy of the phantom: a stylised heart in a chest, as implicit functions of patient coordinates.

Coordinates are millimetres, RAS: x to the patient's right, y to the front, z to the head; 0 is in the heart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.phantom_chest import CHEST_WALL, Chest, paint_chest
from ufc_monai.data.phantom_shapes import Array, Ellipsoid, Grid, Mask, Point, rotated, tube

__all__ = ["STRAY_LABEL", "Patient", "draw_patient", "render"]

STRAY_LABEL = 421
"""An id that occurs in a few voxels of the real data beside 420, by mistake."""

# The heart of a patient of size 1, before it is posed. The ventricles' long axis points to the apex: to the left, the
# front and the feet; the second axis from the left ventricle to the right one.
AXES = ((-0.660, 0.580, -0.478), (0.656, 0.755, 0.010), (0.367, -0.307, -0.878))
LEFT_VENTRICLE = Ellipsoid((-36, 4, -18), (42, 23, 23), AXES)
RIGHT_VENTRICLE = Ellipsoid((-15, 24, -18), (46, 25, 34), AXES)
LEFT_ATRIUM = Ellipsoid((-7, -37, 12), (32, 20, 23))
RIGHT_ATRIUM = Ellipsoid((34, -3, -4), (25, 27, 30))
WALL, MITRAL, TRICUSPID = 9.0, -25.0, -42.0
"""Thickness of the myocardium, and where along the long axis the ventricles end at their valves."""
OUTFLOW: list[Point] = [(-12, 28, -14), (-20, 34, 8)]
AORTA: list[Point] = [(-11, 0, 2), (4, 9, 20), (15, 12, 38), (15, 6, 52)]
TRUNK: list[Point] = [(-20, 35, 12), (-22, 32, 28), (-17, 16, 42), (-14, 2, 46)]
BRANCHES: list[Point] = [(52, -24, 38), (28, -17, 43), (6, -11, 45), (-14, 2, 46), (-34, -20, 47), (-54, -32, 45)]
VEINS: list[list[Point]] = [
    [(s * 26 - 7, -38, z), (s * 66 - 7, -46, z + rise)] for s in (-1, 1) for z, rise in ((20, 10), (6, -12))
]


@dataclass(frozen=True)
class Patient:
    """What differs between patients; lengths in mm, contrast in Hounsfield units.

    Attributes:
        size: of the heart, 1 is average.
        pose: rotation of the heart about x, y and z, in degrees.
        shift: of the heart in the chest.
        chest: the body around it.
        myocardium: its contrast.
        noise: standard deviation.
        pixel: voxel size in x and y.
        thickness: voxel size in z.
        origin: centre of the first voxel.
        matrix: voxels in x, y and z.
        stray: whether the label holds stray voxels.
    """

    size: float
    pose: Point
    shift: Point
    chest: Chest
    myocardium: float
    noise: float
    pixel: float
    thickness: float
    origin: Point
    matrix: tuple[int, int, int]
    stray: bool


def draw_patient(rng: np.random.Generator, matrix: int) -> Patient:
    """Draw a patient; a slice has ``matrix`` pixels along its sides, for some a few less from back to front."""
    size = float(rng.uniform(0.87, 1.12))
    pose = rng.uniform(-15, 15, 3)
    low, high = _span(Rotation.from_euler("xyz", pose, degrees=True), size)
    low, high = low - float(rng.uniform(14, 26)), high + float(rng.uniform(12, 20))
    slices = int(rng.integers(max(24, int(np.ceil((high - low) / 6))), 45))
    chest = Chest.draw(rng, size)
    thickness = (high - low) / slices
    pixel = 2 * (chest.width + CHEST_WALL + chest.fat) * float(rng.uniform(1.17, 1.3)) / matrix
    rows = matrix - int(rng.choice([0, 0, matrix // 14]))
    corner = rng.uniform(-5, 5, 2) - np.array([matrix - 1, rows - 1]) / 2 * pixel
    return Patient(
        size=size,
        pose=_point(pose),
        shift=(float(rng.uniform(-6, 6)), float(rng.uniform(-3, 3)), 0.0),
        chest=chest,
        myocardium=float(rng.uniform(80, 125)),
        noise=float(rng.uniform(12, 40)),
        pixel=pixel,
        thickness=thickness,
        origin=(float(corner[0]), float(corner[1]) + chest.middle - 8, low + thickness / 2),
        matrix=(matrix, rows, slices),
        stray=bool(rng.random() < 0.5),
    )


def render(patient: Patient, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Image (Hounsfield units) and label of a patient, both (x, y, z) in RAS order."""
    grid = _grid(patient)
    turn = Rotation.from_euler("xyz", patient.pose, degrees=True)
    x, y, z = ((g - np.float32(s)) / np.float32(patient.size) for g, s in zip(grid, patient.shift, strict=True))
    posed = rotated((x, y, z), turn.inv().as_matrix())
    structures = _structures(posed)
    veins = np.logical_or.reduce([tube(posed, vein, 7) for vein in VEINS])
    arch = _point(turn.apply(AORTA[-1]) * patient.size + patient.shift)
    heart = np.logical_or.reduce(list(structures.values()))
    hu, taken = paint_chest(grid, patient.chest, heart, veins, arch, rng)
    label = np.zeros(hu.shape, dtype=np.uint16)
    for name, inside in structures.items():
        hu[inside & ~taken] = _contrast(patient, name)
        label[inside & ~taken] = MMWHS_LABELS[name]
    if patient.stray:
        _add_stray(label, rng)
    return _scanned(hu, patient.noise, rng), label


def _scanned(hu: Array, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Blurred a little, with correlated noise, in whole Hounsfield units."""
    hu = ndimage.gaussian_filter(hu, (0.6, 0.6, 0.3))
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.7, 0.7, 0))
    hu += grain * np.float32(noise / grain.std())
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


def _structures(grid: Grid) -> dict[str, Mask]:
    """The labelled structures in the heart's own frame; later ones cover earlier ones."""
    long = LEFT_VENTRICLE.along(grid)[0]
    below_mitral = long > MITRAL
    shell = (LEFT_VENTRICLE.grown(WALL).at(grid) < 1) & below_mitral
    right = (RIGHT_VENTRICLE.at(grid) < 1) & (long > TRICUSPID)
    return {
        "right_ventricle": right | tube(grid, OUTFLOW, 15),
        "right_atrium": RIGHT_ATRIUM.at(grid) < 1,
        "left_atrium": LEFT_ATRIUM.at(grid) < 1,
        "pulmonary_artery": tube(grid, TRUNK, 13) | tube(grid, BRANCHES, 9),
        "aorta": tube(grid, AORTA, 14),
        "myocardium": shell,
        "left_ventricle": (LEFT_VENTRICLE.at(grid) < 1) & below_mitral,
    }


def _span(turn: Rotation, size: float) -> tuple[float, float]:
    """Lowest and highest z that a structure of a posed heart may reach."""
    up = turn.as_matrix()[2]
    spheres = [*((p, 14.0) for p in AORTA), *((p, 13.0) for p in TRUNK), *((p, 9.0) for p in BRANCHES)]
    for e in (LEFT_VENTRICLE.grown(WALL), RIGHT_VENTRICLE, LEFT_ATRIUM, RIGHT_ATRIUM):
        spheres.append((e.centre, float(np.linalg.norm(np.array(e.axes) @ up * e.half))))
    return float(size * min(up @ c - r for c, r in spheres)), float(size * max(up @ c + r for c, r in spheres))


def _contrast(p: Patient, name: str) -> float:
    if name == "myocardium":
        return p.myocardium
    right = name in {"right_ventricle", "right_atrium", "pulmonary_artery"}
    return p.chest.right_blood if right else p.chest.left_blood


def _grid(p: Patient) -> Grid:
    spacing = (p.pixel, p.pixel, p.thickness)
    x, y, z = (
        (np.arange(n) * mm + first).astype(np.float32) for n, mm, first in zip(p.matrix, spacing, p.origin, strict=True)
    )
    return x[:, None, None], y[None, :, None], z[None, None, :]


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values.tolist()
    return x, y, z


def _add_stray(label: NDArray[np.uint16], rng: np.random.Generator) -> None:
    """Give a few voxels at the border of the left atrium the id of MMWHS' mistake."""
    atrium = label == MMWHS_LABELS["left_atrium"]
    border = np.argwhere(atrium & ~ndimage.binary_erosion(atrium))
    chosen = rng.choice(border, size=min(3, len(border)), replace=False)
    label[tuple(chosen.T)] = STRAY_LABEL
