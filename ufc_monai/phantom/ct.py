"""Synthetic whole-heart CT patients: a stylised heart in a chest, as implicit functions of patient coordinates."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from ufc_monai.base.files import atomic_path
from ufc_monai.phantom.chest import AORTA, CHEST_WALL, STRAY_LABEL, STRUCTURES, VEINS, Chest, draw_chest, paint_chest
from ufc_monai.phantom.shapes import Array, Grid, Point, moved, rotated, union


class Patient(NamedTuple):
    """What differs between patients; lengths in mm, contrast in Hounsfield units.

    Attributes:
        size: of the heart, 1 is average.
        turn: rotation of the heart.
        shift: of the heart in the chest.
        chest: the body around it.
        myocardium: its contrast.
        noise: standard deviation.
        spacing: voxel size in x, y and z.
        origin: centre of the first voxel.
        matrix: voxels in x, y and z.
        stray: whether the label holds stray voxels.
    """

    size: float
    turn: Rotation
    shift: Point
    chest: Chest
    myocardium: float
    noise: float
    spacing: Point
    origin: Point
    matrix: tuple[int, int, int]
    stray: bool


def make_phantom(
    folder: str | os.PathLike[str], *, patients: int = 12, labelled: int | None = None, matrix: int = 112, seed: int = 0
) -> list[Path]:
    """Write synthetic patients as ``ct_train_1001_image.nii.gz`` and ``ct_train_1001_label.nii.gz``, and so on.

    They differ in size and pose of the heart, body, contrast, noise, field of view, slice thickness, number of slices
    and the orientation of the file; some labels hold a few stray voxels of id 421, as the real ones do.

    Args:
        folder: where to write; made if missing.
        patients: how many.
        labelled: how many of them, from the first, get a label; ``None`` for all.
        matrix: pixels along the longer side of a slice.
        seed: the same seed writes the same voxels.

    Returns:
        The paths of the images.
    """
    images = []
    for n in tqdm(range(patients), "phantom", unit="patient", disable=None):
        rng = np.random.default_rng([seed, n])
        patient = draw_patient(rng, matrix)
        hu, label = render(patient, rng)
        name = Path(folder) / f"ct_train_{1001 + n}"
        flipped = n % 3 == 1
        # label first: if this is interrupted, an image without one would count as an unlabelled patient
        if labelled is None or n < labelled:
            _write(f"{name}_label.nii.gz", label, patient, flipped)
        images.append(_write(f"{name}_image.nii.gz", hu, patient, flipped))
    return images


def draw_patient(rng: np.random.Generator, matrix: int) -> Patient:
    """Draw a patient; a slice has ``matrix`` pixels along its sides, sometimes a few fewer from back to front."""
    size = rng.uniform(0.87, 1.12)
    turn = Rotation.from_euler("xyz", rng.uniform(-15, 15, 3), degrees=True)
    low, high = _span(turn, size)
    low, high = low - rng.uniform(14, 26), high + rng.uniform(12, 20)
    slices = int(rng.integers(max(24, math.ceil((high - low) / 6)), 45))
    chest = draw_chest(rng, size)
    thickness = (high - low) / slices
    pixel = 2 * (chest.width + CHEST_WALL + chest.fat) * rng.uniform(1.17, 1.3) / matrix
    rows = matrix - int(rng.choice([0, 0, matrix // 14]))
    x, y = rng.uniform(-5, 5, 2) - np.array([matrix - 1, rows - 1]) / 2 * pixel
    return Patient(
        size=size,
        turn=turn,
        shift=(rng.uniform(-6, 6), rng.uniform(-3, 3), 0.0),
        chest=chest,
        myocardium=rng.uniform(80, 125),
        noise=rng.uniform(12, 40),
        spacing=(pixel, pixel, thickness),
        origin=(x, y + chest.middle - 8, low + thickness / 2),
        matrix=(matrix, rows, slices),
        stray=rng.random() < 0.5,
    )


def render(p: Patient, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint16]]:
    """Image (Hounsfield units) and label of a patient, both (x, y, z) in RAS order."""
    axes = (np.arange(n) * mm + first for n, mm, first in zip(p.matrix, p.spacing, p.origin, strict=True))
    grid: Grid = np.ix_(*(axis.astype(np.float32) for axis in axes))
    posed = rotated(tuple(g / np.float32(p.size) for g in moved(grid, p.shift)), p.turn.inv().as_matrix())
    heart = [(s, union(shape.inside(posed) for shape in s.shapes)) for s in STRUCTURES.values()]
    veins = union(vein.inside(posed) for vein in VEINS)
    arch = p.turn.apply(AORTA.points[-1]) * p.size + p.shift
    hu, taken = paint_chest(grid, p.chest, union(inside for _, inside in heart), veins, arch, rng)
    contrast = {"left blood": p.chest.left_blood, "right blood": p.chest.right_blood, "myocardium": p.myocardium}
    label = np.zeros(hu.shape, dtype=np.uint16)
    for structure, inside in heart:
        hu[inside & ~taken] = contrast[structure.contrast]
        label[inside & ~taken] = structure.id
    if p.stray:
        _add_stray(label, rng)
    return _scanned(hu, p.noise, rng), label


def _span(turn: Rotation, size: float) -> tuple[float, float]:
    """Lowest and highest z that a structure of a posed heart may reach."""
    up = turn.as_matrix()[2]
    spheres = [sphere for s in STRUCTURES.values() for shape in s.shapes for sphere in shape.spheres(up)]
    return size * min(z - r for z, r in spheres), size * max(z + r for z, r in spheres)


def _add_stray(label: NDArray[np.uint16], rng: np.random.Generator) -> None:
    """Give a few voxels at the border of the left atrium the stray id of the MMWHS labels."""
    atrium = label == STRUCTURES["left_atrium"].id
    border = np.argwhere(atrium & ~ndimage.binary_erosion(atrium))
    label[tuple(rng.choice(border, size=min(3, len(border)), replace=False).T)] = STRAY_LABEL


def _scanned(hu: Array, noise: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """Blurred a little, with correlated noise, in whole Hounsfield units."""
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape, dtype=np.float32), (0.7, 0.7, 0))
    scan: Array = ndimage.gaussian_filter(hu, (0.6, 0.6, 0.3)) + grain * np.float32(noise / grain.std())
    return np.clip(np.rint(scan), -1024, 3071).astype(np.int16)


def _write(path: str, array: NDArray[np.int16] | NDArray[np.uint16], patient: Patient, flipped: bool) -> Path:
    """Write an array in RAS order, stored as it is or, ``flipped``, as LPS, like many scanners do."""
    affine = np.diag([*patient.spacing, 1.0])
    affine[:3, 3] = patient.origin
    volume = nib.Nifti1Image(array, affine)
    if flipped:
        volume = volume.as_reoriented(nib.orientations.axcodes2ornt("LPS"))
    with atomic_path(path) as temporary:
        nib.save(volume, temporary)
    return Path(path)
