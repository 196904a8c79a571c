"""One made-up volume, stored in every format."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from ufc_monai.transforms.series import simple_itk

sitk = simple_itk()
SHAPE = (6, 5, 4)
FILES = ("a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd")
STRAIGHT, OBLIQUE = 0.0, 0.3


def make_image(angle: float) -> Any:
    """Whole Hounsfield units; the slices lie about the z axis, turned by an angle and tilted by half of it."""
    turned = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = angle / 2
    tilted = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(-1000, 2000, SHAPE[::-1]).astype(np.int16))
    image.SetDirection((turned @ tilted).ravel().tolist())
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((-10.5, 20.25, 33.0))
    return image


def write_all(folder: Path, angle: float) -> list[str]:
    """The volume as every kind of file and as a DICOM series; NIfTI comes first."""
    image = make_image(angle)
    for name in FILES:
        sitk.WriteImage(image, folder / name)
    write_dicom(folder / "series", image)
    return [str(folder / name) for name in (*FILES, "series")]


def write_dicom(folder: Path, image: Any, uid: str = "1.2.3.4", leave_out: Collection[int] = ()) -> None:
    """A CT series with stored values from 0 up (intercept -1024), in files whose names do not follow the slices."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.reshape(image.GetDirection(), (3, 3))
    for i in set(range(image.GetDepth())).difference(leave_out):
        piece = image[:, :, i]
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"{uid}.{i + 1}",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0032": "\\".join(f"{x:.10g}" for x in image.TransformIndexToPhysicalPoint((0, 0, i))),
            "0020|0037": "\\".join(f"{x:.10g}" for x in (*direction[:, 0], *direction[:, 1])),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(folder / f"{97 * i % 101}_{uid}.dcm")
        writer.Execute(piece)
