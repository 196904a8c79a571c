"""Masks of DICOM series as DICOM SEG, which viewers and archives lay over the series that it refers to."""

from __future__ import annotations

import csv
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.data.utils import orientation_ras_lps
from monai.utils import optional_import
from numpy.typing import NDArray

from ufc_monai import __version__
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path
from ufc_monai.base.formats import dicom_files, is_dicom
from ufc_monai.transforms.labels import classes_of

nib, _ = optional_import("nibabel")


ANATOMY = "91723000|Anatomical Structure"


class Code(NamedTuple):
    """What a structure is called in a terminology, e.g. ``10200004``, ``SCT``, ``Liver``.

    ``category`` is a code of SNOMED CT and its meaning, of DICOM's list of segmentation categories (CID 7150).
    """

    value: str
    scheme: str
    meaning: str
    category: str = ANATOMY


SNOMED = {
    "right kidney": "9846003",
    "left kidney": "18639004",
    "oesophagus": "32849002",
    "right adrenal gland": "29392005",
    "left adrenal gland": "12003004",
    "urinary bladder": "89837001",
    "myocardium": "74281007",
    "right lung": "3341006",
    "left lung": "44029006",
}
"""SNOMED CT's codes of usual organs that DICOM's list of anatomical structures (CID 7192) lacks, in small letters."""
COLUMNS = ("structure", "code", "scheme", "meaning")
"""Of a table of further codes, which may also have ``category``, for what is no organ."""
OFF_GRID = (0.01, 0.01, 0.5)
"""Pixels, and slices, by which a slice may lie off the mask's grid, which is even: headers round positions."""


def highdicom() -> Any:
    """The package highdicom, imported when it is first needed.

    Raises:
        InputError: if it is not installed.
    """
    module, installed = optional_import("highdicom")
    if not installed:
        raise InputError(
            "--format dicom_seg: needs highdicom, which is not installed: pip install highdicom, or the extra dicom of "
            "ufc-monai."
        )
    return module


def codes_for(scans: Sequence[str], names: Sequence[str], table: Path | None = None) -> list[Code]:
    """The codes of structures, once it is sure that the mask of each scan can be a DICOM SEG.

    Args:
        scans: their paths.
        names: of the structures.
        table: as of :func:`codes_of`.

    Raises:
        InputError: if highdicom is missing, a scan is no DICOM series, or :func:`codes_of` refuses.
    """
    highdicom()
    if other := [scan for scan in scans if not (Path(scan).is_dir() or is_dicom(Path(scan)))]:
        raise InputError(f"--format dicom_seg: {other[0]} is no DICOM series that a DICOM SEG could refer to.")
    return codes_of(names, table)


def codes_of(names: Sequence[str], table: Path | None = None) -> list[Code]:
    """The code of each structure: of a table, of :data:`SNOMED`, or of DICOM's list of anatomical structures.

    Args:
        names: of the structures, in any case, with spaces, ``_`` or ``-``.
        table: a CSV with the columns :data:`COLUMNS`.

    Raises:
        InputError: if the table cannot be read, or a structure has no code.
    """
    of_table = {} if table is None else _read_codes(table)
    found = [of_table.get(plain) or _code_of(plain) for plain in map(_plain, names)]
    if missing := [name for name, code in zip(names, found, strict=True) if code is None]:
        raise InputError(
            f"--format dicom_seg: no code is known for {', '.join(missing)}. Pass --codes FILE, a CSV with the first "
            f"line {','.join(COLUMNS)} and a line for each, e.g. {missing[0]},10200004,SCT,Liver."
        )
    return [code for code in found if code is not None]


def _code_of(name: str) -> Code | None:
    if name in SNOMED:
        return Code(SNOMED[name], "SCT", name.capitalize())
    codes, _ = optional_import("pydicom.sr.codedict", name="codes")
    found = getattr(codes.cid7192, "".join(map(str.capitalize, name.split())), None)
    return found and Code(found.value, found.scheme_designator, found.meaning)


def _read_codes(table: Path) -> dict[str, Code]:
    try:
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
        found = {
            _plain(row["structure"]): Code._make(
                [*(row[column].strip() for column in COLUMNS[1:]), (row.get("category") or "").strip() or ANATOMY]
            )
            for row in rows
        }
    except (OSError, UnicodeDecodeError, KeyError, AttributeError, csv.Error) as e:
        raise InputError(
            f"--codes: {table} cannot be read ({type(e).__name__}). Its first line must be {','.join(COLUMNS)}, and "
            "each line must have all four."
        ) from e
    if empty := [name for name, code in found.items() if not all(code)]:
        raise InputError(f"--codes: {table} leaves a column of {empty[0]} empty. Fill in code, scheme and meaning.")
    for code in found.values():
        for word, most in ((code.scheme, 16), (code.meaning, 64), (code.category.partition("|")[2], 64)):
            if len(word) > most:
                raise InputError(f"--codes: {table}: DICOM has room for {most} characters, got {word!r}. Shorten it.")
        if parted := [word for word in code if "\\" in word]:
            raise InputError(f"--codes: {table}: a backslash parts values in DICOM, got {parted[0]}. Leave it out.")
    if wrong := [code.category for code in found.values() if not all(code.category.partition("|"))]:
        raise InputError(f"--codes: {table}: a category must be code|meaning of SNOMED CT, got {wrong[0]}.")
    return found


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def write_dicom_seg(
    path: str | os.PathLike[str], mask: Path, series: Path, ids: Mapping[str, int], codes: Sequence[Code]
) -> None:
    """Write the mask of a DICOM series as DICOM SEG, whole or not at all.

    The patient, the study and the frame of reference are those of the series, each frame refers to its slice, and the
    segments are numbered from 1 in the order of ``ids``.

    Args:
        path: the file.
        mask: NIfTI on the grid of the series.
        series: folder of the series, or its one file.
        ids: of each structure in the mask.
        codes: of each structure, in the same order.

    Raises:
        InputError: if highdicom is missing, or cannot make one of these files; nothing that it says of their content
            is passed on, since that may name the patient.
    """
    hd = highdicom()
    for name in ("pydicom", "highdicom"):  # they log, and warn of, values in the headers
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), atomic_path(path) as temporary:
            warnings.simplefilter("ignore")
            _segmentation(hd, mask, series, [*ids.values()], _descriptions(hd, [*ids], codes)).save_as(temporary)
    except InputError:
        raise
    except Exception as e:
        said = f": {e}" if isinstance(e, AttributeError) else ""  # which names a tag, and no value
        raise InputError(
            f"{series}: no DICOM SEG can be made for it ({type(e).__name__}{said}). Take --format same instead."
        ) from e


def _segmentation(hd: Any, mask: Path, series: Path, ids: Sequence[int], descriptions: Sequence[Any]) -> Any:
    """The DICOM SEG of a mask; arguments as of :func:`write_dicom_seg`, and what it says of each segment."""
    pydicom, _ = optional_import("pydicom")
    files = dicom_files(series) if series.is_dir() else [series]
    image = nib.load(mask)
    slices = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files]
    order = _frames(series, slices, np.asarray(image.affine))
    segments = classes_of(np.asarray(image.dataobj), ids)
    between = float(np.linalg.norm(image.affine[:3, 2]))
    for header in slices:  # what highdicom reads of them: a CT may leave out the one, or lie about the other
        header.SliceThickness = header.get("SliceThickness") or between
        header.SpacingBetweenSlices = between
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=np.stack([segments[:, :, k].T for k in order]),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=hd.UID(),
        series_number=1000,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="ufc_monai",
        manufacturer_model_name="ufc_unet_segmentation",
        software_versions=__version__,
        device_serial_number="0",
        content_label="SEGMENTATION",
        series_description="ufc_monai segmentation, not for clinical use",
    )


def _frames(series: Path, slices: Sequence[Any], affine: NDArray[np.float64]) -> list[int]:
    """For each DICOM slice its place along the mask's third axis."""
    to_voxel = np.linalg.inv(orientation_ras_lps(affine))
    found = []
    for header in slices:
        across, down = np.reshape([float(x) for x in header.ImageOrientationPatient], (2, 3))
        below, beside = (float(x) for x in header.PixelSpacing)
        first = np.array([float(x) for x in header.ImagePositionPatient])
        last = first + across * beside * (header.Columns - 1) + down * below * (header.Rows - 1)
        ends = np.array([to_voxel @ [*corner, 1] for corner in (first, last)])[:, :3]
        k = int(np.rint(ends[0, 2]))
        off = np.abs(ends - [[0, 0, k], [header.Columns - 1, header.Rows - 1, k]])
        if k in found or not (off <= OFF_GRID).all():
            raise InputError(
                f"{series}: a DICOM slice does not lie on the grid of the mask. Segment with --format same instead."
            )
        found.append(k)
    return found


def _descriptions(hd: Any, names: Sequence[str], codes: Sequence[Code]) -> list[Any]:
    family = hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
    algorithm = hd.AlgorithmIdentificationSequence("ufc_unet_segmentation", family, __version__)
    return [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=hd.sr.CodedConcept(category, "SCT", meaning),
            segmented_property_type=hd.sr.CodedConcept(*kind),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, (name, (*kind, of)) in enumerate(zip(names, codes, strict=True), start=1)
        for category, _, meaning in [of.partition("|")]
    ]
