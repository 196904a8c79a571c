"""How volumes and pictures are stored: the suffixes understood, DICOM series, and the files that make up an image."""

from __future__ import annotations

import glob
import gzip
import os
import re
import zlib
from pathlib import Path

NIFTI = (".nii.gz", ".nii", ".hdr")
"""Of these, .hdr is the header of a pair, whose voxels lie beside it in an .img."""
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg")
"""Pictures are 2D; they count as volumes of one slice."""
DICOM = (".dcm", ".ima", ".dicom")
"""Suffixes of DICOM files. In a series they often have none, or end in the numbers of a UID."""
KNOWN = NIFTI + ITK + PICTURES + DICOM
FORMATS = ", ".join(f"*{suffix}" for suffix in KNOWN) + ", a folder with one DICOM series"
"""What is understood, for the text of errors."""

BARE = re.compile(rb"[\x02\x08]\0[\0-\x20]\0([A-Z]{2}|..\0\0)", re.DOTALL)
"""How a DICOM file without preamble begins: the first tag of its header or data set, then its type or length."""
OWN_PICTURE = "ufc_monai"
"""What pictures of reports and of ``check``, and NIfTI of ``sample``, say of themselves, so as to be no scans."""
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
    name = os.fspath(path).rstrip(os.sep).lower()
    return next((suffix for suffix in KNOWN if name.endswith(suffix)), "")


def stem_of(path: str | os.PathLike[str]) -> str:
    """The name without the suffix; for a folder or an unknown format the whole name.

    Example:
        >>> stem_of("scans/anna.v2.nii.gz"), stem_of("scans/1.2.840.7")
        ('anna.v2', '1.2.840.7')
    """
    name = os.path.basename(os.fspath(path).rstrip(os.sep))
    return name[: len(name) - len(suffix_of(name))]


def is_dicom_series(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder directly holds DICOM files."""
    return os.path.isdir(folder) and any(map(is_dicom, sorted(Path(folder).iterdir())))


def dicom_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The DICOM files of a folder, sorted."""
    return sorted(filter(is_dicom, Path(folder).iterdir()))


def is_dicom(path: Path) -> bool:
    """Whether a file may be a DICOM slice by its name, and begins like one."""
    # DICOMDIR, the table of contents of a disc, bears the mark but holds no picture
    bare = not path.suffix and path.name != "DICOMDIR" and not path.name.startswith(".")
    if not ((bare or is_called_dicom(path)) and path.is_file()):
        return False
    start = _start(path, 132)
    return start[128:] == b"DICM" or (len(start) == 132 and BARE.match(start) is not None)


def is_called_dicom(path: Path) -> bool:
    """Whether a file's name ends as only that of a DICOM slice does: in its suffix, or in the numbers of a UID."""
    suffix = path.suffix.lower()
    return not path.name.startswith(".") and (suffix in DICOM or suffix[1:].isdigit())


def is_own_picture(path: Path) -> bool:
    """Whether a PNG was drawn, or a NIfTI sampled, by this package."""
    if suffix_of(path) == ".nii.gz":
        return _start(path, 228)[148:].startswith(OWN_PICTURE.encode())  # where a header has its remark
    return suffix_of(path) == ".png" and f"Software\0{OWN_PICTURE}".encode() in _start(path, 256)


def is_envi(path: Path) -> bool:
    """Whether an .hdr is that of a picture of remote sensing."""
    return _start(path, 4) == b"ENVI"


def _start(path: Path, size: int) -> bytes:
    """The first bytes of a file, inflated; none if it cannot be read, which its reader will say."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error):
        return b""


def parts_of(path: str | os.PathLike[str]) -> list[Path]:
    """The files that hold an image: the slices in a folder, a header with its detached voxels, or the file itself."""
    path = Path(path)
    if path.is_dir():
        return dicom_files(path)
    if suffix_of(path) == ".hdr":
        beside = (path.with_suffix(suffix) for suffix in (".img", ".IMG"))
        return [path, *(f for f in beside if f.is_file())]
    return [path, *_detached(path)] if suffix_of(path) in ITK else [path]


def _detached(path: Path) -> list[Path]:
    """The files of the voxels that a header names, those that exist."""
    with open(path, "rb") as file:
        header = file.read(HEADER)
    if not (named := DETACHED.search(header)):
        return []
    name = os.fsdecode(named[1])
    if name.split()[0] == "LIST":
        names = os.fsdecode(header[named.end() :]).splitlines()
    elif NUMBER.search(first := name.split()[0]):  # the numbers from and to stand behind it
        names = sorted(glob.glob(NUMBER.sub("*", glob.escape(os.fspath(path.parent / first)))))
    else:
        names = [name]
    return [f for f in (path.parent / n.strip() for n in names if n.strip()) if f.is_file()]
