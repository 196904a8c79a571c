"""Patients of DICOM series, by the PatientID in their files."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ufc_monai.base.formats import DICOM, dicom_files, suffix_of
from ufc_monai.data.case import UNLABELLED_LISTS, Case, read_dataset_json
from ufc_monai.transforms.series import read_header

logger = logging.getLogger(__name__)

PATIENT_ID = "0010|0020"


def with_dicom_patients(cases: Sequence[Case], root: Path) -> list[Case]:
    """Make one patient of the series with one PatientID, whatever their folders are called.

    The patient is called after a short hash of the PatientID, which itself is shown and kept nowhere. A patient that
    ``dataset.json`` names stays.

    Args:
        cases: the volumes.
        root: the data set's folder.
    """
    named = _named_in_list(root)
    series = [c.image for c in cases if c.image not in named and _is_dicom(root / c.image)]
    hashes = {image: _hash_of(root / image, (root / image).stat().st_mtime_ns) for image in series}
    common = Counter(hashes.values())
    found = [replace(c, patient=h) if common[h := hashes.get(c.image, "")] > 1 and h else c for c in cases]
    merged = {c.patient for c in found} - {c.patient for c in cases}
    if merged:
        _say(
            f"{root}: DICOM series with one PatientID count as one patient, {sum(c.patient in merged for c in found)} "
            f"series as {len(merged)}, called {min(merged)}, ... If it names none, give 'patient' in dataset.json."
        )
    return found


def _named_in_list(root: Path) -> set[str]:
    """The images whose patient ``dataset.json`` names."""
    content = read_dataset_json(root)
    lists = ("training", *UNLABELLED_LISTS) if content.get("training") else ()  # else it lists nothing
    entries = [entry for name in lists for entry in content.get(name, [])]
    return {
        os.path.relpath(root / entry["image"], root).replace(os.sep, "/")
        for entry in entries
        if isinstance(entry, dict) and "patient" in entry
    }


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
