"""SimpleITK, and one DICOM series as a volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import dicom_files, is_called_dicom

POSITION, ORIENTATION = "0020|0032", "0020|0037"
"""DICOM's tags ImagePositionPatient and ImageOrientationPatient."""
SHARED = {"0028|0030": "PixelSpacing", ORIENTATION: "ImageOrientationPatient", "0028|0002": "SamplesPerPixel"}
"""Tags that are the same, to :data:`ALIKE`, in all slices of a series."""
ALIKE = 1e-3
MODALITY, PHOTOMETRIC, BITS, SIGNED = "0008|0060", "0028|0004", "0028|0101", "0028|0103"
"""What tells how a slice is to be shown, and what its values may be."""
SLOPE, INTERCEPT = "0028|1053", "0028|1052"
UNEVEN = 0.05
"""How far a DICOM slice may lie from where it belongs, as a share of the slice spacing."""


def simple_itk(path: str | os.PathLike[str] = "this format") -> Any:
    """SimpleITK, imported when it is first needed: NIfTI does without.

    Raises:
        InputError: if it is not installed, naming what needs it.
    """
    module, installed = optional_import("SimpleITK")
    if not installed:
        raise InputError(f"{path}: only SimpleITK can handle it, which is not installed: pip install SimpleITK.")
    return module


def read_header(path: str | os.PathLike[str]) -> Any:
    """SimpleITK's reader of a file, which has read its header alone."""
    header = simple_itk(path).ImageFileReader()
    header.SetFileName(os.fspath(path))
    header.ReadImageInformation()
    return header


def read_series(path: Path) -> Any:
    """The one DICOM series of a folder, or a file that is one, float32 (colours as they are)."""
    names = _slices_of(path) if path.is_dir() else [os.fspath(path)]
    sitk = simple_itk(path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    header = read_header(names[0])
    if header.GetDimension() > 2 and header.GetSize()[2] > 1:
        raise InputError(
            f"{names[0]}: an enhanced or multi-frame DICOM file, with {header.GetSize()[2]} slices in one file, is not "
            "read. Convert it to NIfTI, e.g. with dcm2niix."
        )
    if header.GetNumberOfComponents() == 1:
        # else the first slice's type holds for all, though each may have another rescale slope
        reader.SetOutputPixelType(sitk.sitkFloat32)
    reader.MetaDataDictionaryArrayUpdateOn()  # the tags of every slice
    reader.SetSpacingWarningRelThreshold(np.inf)  # what it would warn of is an error here
    image = reader.Execute()
    _check_shared(reader, path)
    _check_positions(reader, path)
    return _hounsfield(image, header)


def _slices_of(folder: Path) -> list[str]:
    """The files of the one series of a folder, in order."""
    sitk = simple_itk(folder)
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder)
    if len(series) != 1:
        raise InputError(f"{folder}: expected one DICOM series in the folder, found {len(series)}. Give each its own.")
    names: list[str] = [*sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series[0])]
    slices = {*dicom_files(folder), *filter(is_called_dicom, folder.iterdir())}  # cut off early, it has its name alone
    if left := sorted({file.name for file in slices if not file.is_dir()} - {Path(name).name for name in names}):
        raise InputError(
            f"{folder}: {len(left)} of its DICOM files cannot be read as slices of the series, first {left[0]}. Copy "
            "them again, or move them elsewhere if they are not slices."
        )
    return names


def _check_shared(reader: Any, folder: Path) -> None:
    """Refuse a series whose slices differ in what :data:`SHARED` names."""
    for tag, name in SHARED.items():
        found = [reader.GetMetaData(i, tag) for i in range(len(reader.GetFileNames())) if reader.HasMetaDataKey(i, tag)]
        values = [[float(number) for number in text.split("\\")] for text in found]
        if other := [text for text, v in zip(found, values, strict=True) if not np.allclose(v, values[0], atol=ALIKE)]:
            one, first = other[0].strip(), found[0].strip()
            raise InputError(
                f"{folder}: {len(other)} of its DICOM slices have another {name} than the first, {one} and {first}: "
                "they are of several series, or a picture is among them. Take these out."
            )


def _hounsfield(image: Any, header: Any) -> Any:
    """The values of a CT as they are stored: ITK turns those of MONOCHROME1 around, which says how to show them."""
    said = {tag: header.GetMetaData(tag).strip() for tag in header.GetMetaDataKeys()}
    if said.get(PHOTOMETRIC) != "MONOCHROME1" or said.get(MODALITY) != "CT":
        return image
    n, signed = 2 ** int(said[BITS]), said.get(SIGNED) == "1"
    ends = (-n // 2, n // 2 - 1) if signed else (0, n - 1)
    return sum(float(said.get(SLOPE, 1)) * end + float(said.get(INTERCEPT, 0)) for end in ends) - image


def _check_positions(reader: Any, folder: Path) -> None:
    """Refuse a series whose slices do not lie evenly, one behind the other along their normal."""
    n = len(reader.GetFileNames())
    if n == 1:
        return
    if not all(reader.HasMetaDataKey(i, tag) for i in range(n) for tag in (POSITION, ORIENTATION)):
        raise InputError(f"{folder}: some of the {n} DICOM slices have no position or orientation. Export them again.")
    positions, orientations = (
        np.array([[float(number) for number in reader.GetMetaData(i, tag).split("\\")] for i in range(n)])
        for tag in (POSITION, ORIENTATION)
    )
    normal = np.cross(orientations[0, :3], orientations[0, 3:])
    steps = np.diff(positions, axis=0)
    spacing = np.quantile(steps @ normal, 0.5, method="lower")  # the median, but always one of the gaps
    wrong = np.linalg.norm(steps - spacing * normal, axis=1) > UNEVEN * abs(spacing)
    if wrong.any() or spacing == 0:
        at = int(np.argmax(wrong))
        raise InputError(
            f"{folder}: {int(wrong.sum())} of the {n - 1} gaps between its DICOM slices are not the usual "
            f"{abs(spacing):g} mm straight ahead, first from {positions[at]} to {positions[at + 1]} mm: slices are "
            "missing, doubled, unevenly spaced or tilted. Export the series again, or resample it."
        )
