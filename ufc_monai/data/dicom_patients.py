"""Patients of DICOM series, by the PatientID in their files, and series that lie in several folders."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ufc_monai.base.formats import DICOM, dicom_files, suffix_of
from ufc_monai.data.case import Case
from ufc_monai.data.tree import SERIES
from ufc_monai.transforms.series import read_header

logger = logging.getLogger(__name__)

PATIENT_ID = "0010|0020"


def with_dicom_patients(cases: Sequence[Case], root: Path) -> list[Case]:
    """Make one patient of the patients whose series share a PatientID, whatever their folders are called.

    What the names hold together stays together. The patient is called after a short hash of the PatientID, which itself
    is shown and kept nowhere. A patient that ``dataset.json`` names stays.

    Args:
        cases: the volumes.
        root: the data set's folder.
    """
    series = [c.image for c in cases if not c.named and _is_dicom(root / c.image)]
    hashes = {image: _said(root / image)[0] for image in series}
    joined = _joined([(c.patient, h) for c in cases if (h := hashes.get(c.image))])
    found = [replace(c, patient=joined.get(c.patient, c.patient)) for c in cases]
    merged = {*joined.values()}
    if merged:
        _say(
            f"{root}: DICOM series with one PatientID count as one patient, {sum(c.patient in merged for c in found)} "
            f"scans as {len(merged)}, called {min(merged)}, ... If it names none, give 'patient' in dataset.json."
        )
    return found


def _joined(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """What patients are called together, of those whose hashes join them, from pairs of a patient and a hash."""
    above = dict[str, str]()

    def top(name: str) -> str:
        while (higher := above.get(name, name)) != name:
            name = higher
        return name

    for patient, hashed in pairs:
        above[top(patient)] = top(hashed)
    common = Counter(top(patient) for patient in {patient for patient, _ in pairs})
    return {patient: name for patient, _ in pairs if common[name := top(patient)] > 1}


def of_one_series(cases: Sequence[Case], root: Path) -> list[list[str]]:
    """Images that bear the number of one series: its parts in several folders, each read as a scan, or copies.

    Args:
        cases: the volumes.
        root: the data set's folder.
    """
    images = defaultdict[str, list[str]](list)
    for case in cases:
        if _is_dicom(root / case.image):
            images[_said(root / case.image)[1]].append(case.image)
    return [sorted(found) for uid, found in images.items() if uid and len(found) > 1]


def _is_dicom(image: Path) -> bool:
    return image.is_dir() or suffix_of(image) in DICOM


def _said(image: Path) -> tuple[str, str]:
    """A short hash of the PatientID in an image, and the number of its series.

    Nothing in the place of what it lacks, or of an image that cannot be read, as its reader will say.
    """
    return _read(image, image.stat().st_mtime_ns)


@functools.cache
def _read(image: Path, _: int) -> tuple[str, str]:
    """By the time of its last change, too: data sets are looked through several times."""
    try:
        header = read_header(dicom_files(image)[0] if image.is_dir() else image)
    except (IndexError, RuntimeError):
        return "", ""
    said, uid = (header.GetMetaData(tag).strip() if header.HasMetaDataKey(tag) else "" for tag in (PATIENT_ID, SERIES))
    return f"dicom_{hashlib.sha256(said.encode(errors='surrogateescape')).hexdigest()[:8]}" if said else "", uid


@functools.cache
def _say(text: str) -> None:
    logger.warning(text)
