"""Synthetic whole-heart CT patients, for the demo and the tests: MMWHS itself may not be passed on."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ufc_monai.data.phantom_anatomy import Patient, draw_patient, render
from ufc_monai.files import atomic_path

__all__ = ["make_phantom"]


def make_phantom(
    folder: str | os.PathLike[str],
    *,
    patients: int = 12,
    labelled: int | None = None,
    matrix: int = 112,
    seed: int = 0,
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
        # the label first: an image without one would pass for an unlabelled patient if this is interrupted
        if labelled is None or n < labelled:
            _write(f"{name}_label.nii.gz", label, patient, flipped)
        images.append(_write(f"{name}_image.nii.gz", hu, patient, flipped))
    return images


def _write(path: str, array: NDArray[np.int16] | NDArray[np.uint16], patient: Patient, flipped: bool) -> Path:
    """Write an array in RAS order, stored as it is or, ``flipped``, as LPS, like many scanners do."""
    affine = np.diag([patient.pixel, patient.pixel, patient.thickness, 1.0])
    affine[:3, 3] = patient.origin
    volume = nib.Nifti1Image(array, affine)
    if flipped:
        volume = volume.as_reoriented(nib.orientations.axcodes2ornt("LPS", (("L", "R"), ("P", "A"), ("I", "S"))))
    with atomic_path(path) as temporary:
        nib.save(volume, temporary)
    return Path(path)
