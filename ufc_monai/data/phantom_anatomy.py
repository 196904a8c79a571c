"""The anatomy of the phantom: a stylised chest with a heart, as implicit functions of patient coordinates.

Coordinates are millimetres, RAS: x to the patient's right, y to the front, z to the head, the heart's centre at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

__all__ = ["MMWHS_LABELS", "STRAY_LABEL", "Patient", "draw_patient", "render"]

MMWHS_LABELS = {
    "left_ventricle": 500,
    "right_ventricle": 600,
    "left_atrium": 420,
    "right_atrium": 550,
    "myocardium": 205,
    "aorta": 820,
    "pulmonary_artery": 850,
}
"""Structures of the Multi-Modality Whole Heart Segmentation challenge 2017 and their ids in its label files."""
STRAY_LABEL = 421
"""An id that occurs in a few voxels of the real data beside 420, by mistake."""

Array = NDArray[np.float32]
Grid = tuple[Array, Array, Array]
LUNG, FAT, MUSCLE, BONE, AIR = -850.0, -100.0, 50.0, 420.0, -1000.0
HEART = {  # centre, half axes
    "left_ventricle": ((-30, 4, -14), (21, 21, 37)),
    "right_ventricle": ((12, 26, -16), (34, 25, 36)),
    "left_atrium": ((-6, -32, 18), (29, 19, 21)),
    "right_atrium": ((43, -2, 6), (21, 24, 29)),
}
WALL = 10.0
"""Thickness of the left ventricle's myocardium."""


@dataclass(frozen=True)
class Patient:
    """What differs between patients."""

    size: float
    pose: tuple[float, float, float]
    shift: tuple[float, float, float]
    body: tuple[float, float]
    fat: float
    left_blood: float
    right_blood: float
    noise: float
    pixel: float
    thickness: float
    slices: int
    matrix: tuple[int, int]
    stray: bool


def draw_patient(rng: np.random.Generator, matrix: int) -> Patient:
    """Draw a patient; ``matrix`` is the number of pixels along the sides, cut short on one side for some."""
    thickness = float(rng.uniform(4.0, 6.5))
    short = int(rng.choice([0, 0, matrix // 14]))
    return Patient(
        size=float(rng.uniform(0.85, 1.15)),
        pose=tuple(rng.uniform(-15, 15, 3).tolist()),
        shift=tuple(rng.uniform(-8, 8, 3).tolist()),
        body=(float(rng.uniform(142, 172)), float(rng.uniform(98, 116))),
        fat=float(rng.uniform(10, 24)),
        left_blood=float(rng.uniform(270, 430)),
        right_blood=float(rng.uniform(130, 380)),
        noise=float(rng.uniform(12, 40)),
        pixel=float(rng.uniform(345, 400)) / matrix,
        thickness=thickness,
        slices=round(float(rng.uniform(165, 180)) / thickness),
        matrix=(matrix, matrix - short),
        stray=bool(rng.random() < 0.5),
    )


def render(patient: Patient, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Image (Hounsfield units) and label of a patient, both (x, y, z) in RAS order."""
    grid = _grid(patient)
    hu = _chest(grid, patient, rng)
    label = np.zeros(hu.shape, dtype=np.uint16)
    _heart(grid, patient, hu, label)
    if patient.stray:
        _add_stray(label, rng)
    hu = ndimage.gaussian_filter(hu, (0.6, 0.6, 0.3))
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.7, 0.7, 0))
    hu += grain * np.float32(patient.noise / grain.std())
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), label


def _grid(p: Patient) -> Grid:
    x, y = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) * p.pixel for n in p.matrix)
    z = (np.arange(p.slices, dtype=np.float32) - (p.slices - 1) / 2) * p.thickness + 12
    return x[:, None, None], y[None, :, None] + 6, z[None, None, :]


def _ellipsoid(grid: Grid, centre: tuple[float, ...], half: tuple[float, ...]) -> Array:
    """1 on the surface of an ellipsoid, less inside."""
    return np.sqrt(sum(((g - c) / h) ** 2 for g, c, h in zip(grid, centre, half, strict=True)))


def _tube(grid: Grid, points: list[tuple[float, float, float]], radius: float) -> NDArray[np.bool_]:
    """What lies within ``radius`` of a line through ``points``."""
    inside: NDArray[np.bool_] | None = None
    for start, end in pairwise(points):
        a, b = np.array(start, dtype=np.float32), np.array(end, dtype=np.float32)
        way = b - a
        t = sum((g - c) * w for g, c, w in zip(grid, a, way, strict=True)) / (way @ way)
        t = np.clip(t, 0, 1)
        near = sum((g - (c + t * w)) ** 2 for g, c, w in zip(grid, a, way, strict=True)) < radius**2
        inside = near if inside is None else inside | near
    assert inside is not None
    return inside


def _chest(grid: Grid, p: Patient, rng: np.random.Generator) -> Array:
    x, y, z = grid
    a, b = p.body
    shoulders = 1 + 0.1 * np.clip((z - 60) / 40, 0, 1)
    skin = np.sqrt((x / (a * shoulders)) ** 2 + (y / b) ** 2) + 0 * z
    inner = np.sqrt((x / (a - p.fat - 14)) ** 2 + (y / (b - p.fat - 12)) ** 2) + 0 * z
    hu = np.full(skin.shape, AIR, dtype=np.float32)
    hu[skin < 1] = FAT
    hu[np.sqrt((x / (a * shoulders - p.fat)) ** 2 + (y / (b - p.fat)) ** 2) + 0 * z < 1] = MUSCLE
    angle = np.arctan2(y, x)
    ribs = (inner > 0.98) & (inner < 1.1) & (np.sin(z / 4.2 + 4.5 * np.abs(angle)) > 0.55)
    hu[ribs & (z > -70)] = BONE
    _lungs(grid, hu, inner, rng)
    _abdomen(grid, hu, inner, p)
    spine = np.sqrt((x / 19) ** 2 + ((y + b - 48) / 16) ** 2) + 0 * z
    hu[spine < 1.25] = MUSCLE
    hu[spine < 1] = 190 + 130 * (spine[spine < 1] > 0.8)
    hu[(np.abs(x) < 14) & (np.abs(y - b + 21) < 6) & (z > -45)] = BONE * 0.7
    hu[_tube(grid, [(-24, 62 - b, -120), (-24, 62 - b, 78)], 11)] = p.left_blood - 10
    couch = (np.abs(y + b + 9 - 0.0009 * x**2) < 3.5) & (np.abs(x) < a * 1.05)
    hu[couch & (skin > 1.02)] = 120
    return hu


def _lungs(grid: Grid, hu: Array, inner: Array, rng: np.random.Generator) -> None:
    x, y, z = grid
    cavity = inner < 0.97
    width = 30 + 16 * np.clip((20 - z) / 60, 0, 1)
    mediastinum = np.sqrt(((x + 6) / width) ** 2 + ((y - 8) / 88) ** 2) < 1
    field = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (1.1, 1.1, 0.8))
    vessels = field > 2.1 * field.std()
    lung = cavity & ~mediastinum
    hu[cavity] = FAT + 60
    hu[lung] = LUNG
    hu[lung & vessels & (inner < 0.85)] = 20


def _abdomen(grid: Grid, hu: Array, inner: Array, p: Patient) -> None:
    x, y, z = grid
    dome = (
        -46
        + 22 * np.exp(-(((x - 62) / 55) ** 2) - (y / 70) ** 2)
        + 12 * np.exp(-(((x + 70) / 45) ** 2) - (y / 70) ** 2)
    )
    below = (inner < 0.97) & (z < dome)
    hu[below] = FAT
    liver = below & (_ellipsoid(grid, (45, 2, -70), (92, 74, 56)) < 1)
    hu[liver] = 60 + 0.12 * p.left_blood
    stomach = below & (_ellipsoid(grid, (-62, 18, -68), (42, 44, 34)) < 1)
    hu[stomach] = np.where(np.broadcast_to(y > 36, stomach.shape)[stomach], AIR + 40, 25.0)
    hu[below & (_ellipsoid(grid, (-82, -38, -72), (30, 28, 34)) < 1)] = 115


def _heart(grid: Grid, p: Patient, hu: Array, label: NDArray[np.uint16]) -> None:
    """Paint the heart's structures; what comes later covers what came before."""
    turned = _turned(grid, Rotation.from_euler("xyz", p.pose, degrees=True), p)
    # the ventricles' long axis points to the left, the front and the feet
    tilted = _turned(turned, Rotation.from_euler("xy", [38, 34], degrees=True), None)
    axis = Rotation.from_euler("xy", [38, 34], degrees=True)
    inside = {}
    for name, (centre, half) in HEART.items():
        ventricle = name.endswith("ventricle")
        frame = tilted if ventricle else turned
        place = tuple(axis.inv().apply(centre)) if ventricle else centre
        inside[name] = _ellipsoid(frame, place, half) < 1
        if name == "left_ventricle":
            thick = tuple(h + WALL for h in half)
            inside["myocardium"] = _ellipsoid(frame, place, thick) < 1
    sac = ndimage.binary_dilation(np.logical_or.reduce(list(inside.values())), iterations=2)
    hu[sac & (hu < FAT / 2)] = FAT + 20
    inside["pulmonary_artery"] = _tube(turned, [(-2, 34, 12), (-10, 26, 40), (-16, 8, 54)], 13) | _tube(
        turned, [(48, -14, 52), (10, -6, 55), (-16, 8, 54), (-46, -22, 56)], 8.5
    )
    inside["aorta"] = _tube(turned, [(-2, -2, 12), (10, 10, 36), (10, 6, 66), (2, -6, 80)], 14)
    arch = _tube(turned, [(2, -6, 80), (-14, -30, 84), (-22, -48, 70)], 12)
    hu[arch] = p.left_blood
    blood = {"right_ventricle": p.right_blood, "right_atrium": p.right_blood, "pulmonary_artery": p.right_blood}
    order = (
        "right_ventricle",
        "myocardium",
        "right_atrium",
        "left_atrium",
        "pulmonary_artery",
        "aorta",
        "left_ventricle",
    )
    for name in order:
        hu[inside[name]] = 95 if name == "myocardium" else blood.get(name, p.left_blood)
        label[inside[name]] = MMWHS_LABELS[name]


def _turned(grid: Grid, rotation: Rotation, p: Patient | None) -> Grid:
    """Coordinates in a frame that is turned, and for a patient's heart also moved and scaled."""
    shift, size = (p.shift, p.size) if p else ((0.0, 0.0, 0.0), 1.0)
    matrix = rotation.inv().as_matrix().astype(np.float32) / np.float32(size)
    moved = [g - np.float32(s) for g, s in zip(grid, shift, strict=True)]
    x, y, z = (sum(m * g for m, g in zip(row, moved, strict=True)) for row in matrix)
    return x, y, z


def _add_stray(label: NDArray[np.uint16], rng: np.random.Generator) -> None:
    atrium = label == MMWHS_LABELS["left_atrium"]
    border = np.argwhere(atrium & ~ndimage.binary_erosion(atrium))
    if len(border):
        chosen = border[rng.choice(len(border), size=min(3, len(border)), replace=False)]
        label[tuple(chosen.T)] = STRAY_LABEL
