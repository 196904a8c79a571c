"""Patients of DICOM series, by the PatientID in their files."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ufc_monai.base.formats import DICOM, dicom_files, suffix_of
from ufc_monai.data.case import Case
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
    hashes = {image: _hash_of(root / image, (root / image).stat().st_mtime_ns) for image in series}
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


def _is_dicom(image: Path) -> bool:
    return image.is_dir() or suffix_of(image) in DICOM


@functools.cache
def _hash_of(image: Path, _: int) -> str:
    """A short hash of the PatientID in an image; nothing if it has none or cannot be read, as its reader will say.

    The time of its last change is what else it is known by: data sets are looked through several times.
    """
    try:
        header = read_header(dicom_files(image)[0] if image.is_dir() else image)
    except (IndexError, RuntimeError):
        return ""
    said = header.GetMetaData(PATIENT_ID).strip() if header.HasMetaDataKey(PATIENT_ID) else ""
    return f"dicom_{hashlib.sha256(said.encode(errors='surrogateescape')).hexdigest()[:8]}" if said else ""


@functools.cache
def _say(text: str) -> None:
    logger.warning(text)
