"""How volumes and pictures are stored: the suffixes understood, DICOM series, and the files that make up an image."""

from __future__ import annotations

import glob
import os
import re
from itertools import islice
from pathlib import Path

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg")
"""Pictures are 2D; they count as volumes of one slice."""
DICOM = (".dcm", ".ima", "")
"""Suffixes of DICOM files. They often have none, or end in the numbers of a UID."""
FORMATS = ", ".join(f"*{suffix}" for suffix in NIFTI + ITK + PICTURES) + ", a folder with one DICOM series"
"""What is understood, for the text of errors."""

PROBED = 4
"""Files of a folder that are looked into for DICOM's mark."""
DETACHED = re.compile(rb"^(?:ElementDataFile\s*=|data ?file:)\s*(\S.*?)\s*$", re.MULTILINE)
"""The line of an ITK header that names the file of the voxels, a pattern of such names, or a list of them below it."""
NUMBER = re.compile(r"%\d*[di]")
"""Where the number of a slice stands in a pattern."""
HEADER = 2**20
"""Bytes of a file that its header is looked for in."""


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The suffix in lower case, or ``""`` for an unknown format.

    Example:
        >>> suffix_of("scans/Anna.NII.GZ"), suffix_of("notes.txt")
        ('.nii.gz', '')
    """
    name = Path(path).name.lower()
    return next((suffix for suffix in NIFTI + ITK + PICTURES if name.endswith(suffix)), "")


def stem_of(path: str | os.PathLike[str]) -> str:
    """The name without the suffix; for a folder or an unknown format the whole name.

    Example:
        >>> stem_of("scans/anna.v2.nii.gz"), stem_of("scans/1.2.840.7")
        ('anna.v2', '1.2.840.7')
    """
    name = Path(path).name
    return name[: len(name) - len(suffix_of(name))]


def is_dicom_series(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder directly holds DICOM files; only its first few files are looked into."""
    return os.path.isdir(folder) and bool(dicom_files(folder, PROBED))


def dicom_files(folder: str | os.PathLike[str], most: int | None = None) -> list[Path]:
    """The files of a folder that bear DICOM's mark, of the first ``most`` that may."""
    files = (Path(folder, name) for name in sorted(os.listdir(folder)) if _may_be_dicom(name))
    return [file for file in islice(files, most) if _has_dicom_mark(file)]


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """The files that hold an image: the files of a folder, a header with its detached voxels, or the file itself."""
    path = Path(path)
    if path.is_dir():
        return sorted(f for f in path.iterdir() if f.is_file() and not f.name.startswith("."))
    return [path, *_detached(path)] if suffix_of(path) in ITK else [path]


def _detached(path: Path) -> list[Path]:
    """The files of the voxels that a header names, those that exist."""
    with open(path, "rb") as file:
        header = file.read(HEADER)
    if not (named := DETACHED.search(header)):
        return []
    name = os.fsdecode(named[1])
    if name.startswith("LIST"):
        names = os.fsdecode(header[named.end() :]).splitlines()
    elif NUMBER.search(first := name.split()[0]):  # the numbers from and to stand behind it
        names = sorted(glob.glob(NUMBER.sub("*", glob.escape(os.fspath(path.parent / first)))))
    else:
        names = [name]
    return [f for f in (path.parent / n.strip() for n in names if n.strip()) if f.is_file()]


def _may_be_dicom(name: str) -> bool:
    suffix = Path(name).suffix.lower()
    # DICOMDIR, the table of contents of a disc, bears the mark but holds no picture
    return name != "DICOMDIR" and not name.startswith(".") and (suffix in DICOM or suffix[1:].isdigit())


def _has_dicom_mark(path: Path) -> bool:
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"
