"""The table of files that hold no volume or no label: what is built, and what the message says beside the file's name.

Each of them stops the stage that opens it, is marked by ``check``, and is left out by ``skip_bad``.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from bad_files import STRAIGHT, content, cut_off, organ, series, typed, volume, volume_with, voxels, with_voxel
from PIL import ExifTags, Image
from scans import make_image, sitk

Build = Callable[[Path], Path]

UNREADABLE = "cannot be read as a volume"
COLOURS = [("R", "u1"), ("G", "u1"), ("B", "u1")]
FLAT = [1.0, 0.0, 0.0, 0.0]
META_IMAGE = "NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = gone.raw\n"
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\nendian: little\ndata file: gone.raw\n"


def halved(path: Path) -> Path:
    return cut_off(path, path.stat().st_size // 2)


def two_series(folder: Path) -> Path:
    series(folder, "1.2.3.5")
    return series(folder)


def torn_slice(folder: Path) -> Path:
    cut_off(max(series(folder).iterdir()), 400)
    return folder


def flipped(path: Path, place: int) -> Path:
    """One bit of a file is another."""
    written = bytearray(path.read_bytes())
    written[place] ^= 4
    path.write_bytes(written)
    return path


def halved_checksum(path: Path) -> Path:
    return cut_off(volume(path), path.stat().st_size - 6)


def analyze(path: Path) -> Path:
    nib.save(nib.AnalyzeImage(voxels(), STRAIGHT), path)
    return path


def two_affines(path: Path) -> Path:
    """The qform is turned by half a circle about the third axis, with regard to the sform."""
    return volume_with(path, qform_code=1, quatern_d=1.0)


def tagged(folder: Path, tag: str, value: str) -> Path:
    """A series one slice of which says something else."""
    file = sitk.ImageFileReader()
    series(folder)
    name = sorted(folder.iterdir())[2]
    file.SetFileName(name)
    piece = file.Execute()
    piece.SetMetaData(tag, value)
    if tag == "0028|0030":  # else the writer takes it from the image
        piece.SetSpacing((*map(float, value.split("\\")), 1.0))
    return rewritten(folder, name, piece)


def rewritten(folder: Path, name: Path, piece: Any) -> Path:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(name)
    writer.Execute(piece)
    return folder


def with_capture(folder: Path) -> Path:
    """A picture in colours in the place of a slice."""
    series(folder)
    name = sorted(folder.iterdir())[2]
    grey = sitk.ReadImage(name)
    colours = sitk.Compose(*[sitk.Cast(grey, sitk.sitkUInt8)] * 3)
    for tag in ("0008|0018", "0020|000d", "0020|000e", "0020|0032", "0020|0037"):
        colours.SetMetaData(tag, grey.GetMetaData(tag))
    return rewritten(folder, name, colours)


def cut_slice(folder: Path) -> Path:
    """Of the last slice there is not even DICOM's mark."""
    name = max(series(folder).iterdir())
    cut_off(name, 100)
    return folder


def frames(folder: Path) -> Path:
    """All slices in one file."""
    folder.mkdir()
    sitk.WriteImage(sitk.Cast(make_image(0.0) + 1024, sitk.sitkUInt16), folder / "a.dcm")
    return folder


def photograph(path: Path, turned: bool = False) -> Path:
    """A JPEG as a camera writes it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    noise = np.random.default_rng(0).integers(0, 255, (32, 24)).astype(np.uint8)
    Image.fromarray(noise).save(path, exif=exif)
    return path


def compressed(path: Path) -> Path:
    sitk.WriteImage(make_image(0.0), path, useCompression=True)
    return path


def unoriented(path: Path, words: bytes) -> Path:
    """A volume without the lines of its header that begin so."""
    sitk.WriteImage(sitk.GetImageFromArray(voxels().T), path)
    lines = path.read_bytes().split(b"\n")
    return content(path, b"\n".join(line for line in lines if not line.startswith(words)))


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


IMAGES: dict[str, tuple[Build, str]] = {
    "gzip cut off in its header": (lambda d: cut_off(volume(d / "a.nii.gz"), 60), UNREADABLE),
    "gzip cut off in its middle": (lambda d: halved(volume(d / "a.nii.gz")), UNREADABLE),
    "plain NIfTI cut off": (lambda d: halved(volume(d / "a.nii")), UNREADABLE),
    "gzip with another checksum": (lambda d: flipped(volume(d / "a.nii.gz"), -8), "CRC check failed"),
    "gzip of another length": (lambda d: flipped(volume(d / "a.nii.gz"), -4), "Incorrect length of data"),
    "gzip cut off in its checksum": (lambda d: halved_checksum(d / "a.nii.gz"), UNREADABLE),
    "gzip with noise behind it": (
        lambda d: content(d / "b.nii.gz", volume(d / "a.nii.gz").read_bytes() + b"x"),
        UNREADABLE,
    ),
    "measured in metres": (lambda d: volume_with(d / "a.nii", xyzt_units=1), "measures in metres, expected milli"),
    "measured in micrometres": (lambda d: volume_with(d / "a.nii", xyzt_units=3 + 8), "measures in micrometres"),
    "sform against qform": (
        lambda d: two_affines(d / "a.nii"),
        "by its sform it is stored as RAS, by its qform as LPS",
    ),
    "no gzip": (lambda d: content(d / "a.nii.gz", "hello"), "not a gzip file"),
    "gzip of something else": (lambda d: content(d / "a.nii.gz", gzip.compress(b"hello" * 100)), "work out file type"),
    "of no length": (lambda d: content(d / "a.nii.gz", ""), "Empty file"),
    "plain of no length": (lambda d: content(d / "a.nii", ""), "Empty file"),
    "wrong magic": (lambda d: volume_with(d / "a.nii", magic=b"abc"), UNREADABLE),
    "unknown type of voxels": (lambda d: volume_with(d / "a.nii", datatype=3), UNREADABLE),
    "too few voxels": (lambda d: volume_with(d / "a.nii", dim=[3, 99, 99, 99, 1, 1, 1, 1]), UNREADABLE),
    "NRRD of text": (lambda d: content(d / "a.nrrd", "hello"), UNREADABLE),
    "NRRD whose voxels are gone": (lambda d: content(d / "a.nhdr", NRRD), UNREADABLE),
    "MetaImage whose voxels are gone": (lambda d: content(d / "a.mhd", META_IMAGE), UNREADABLE),
    "PNG of text": (lambda d: content(d / "a.png", "hello"), UNREADABLE),
    "NaN": (lambda d: volume(d / "a.nii.gz", with_voxel(np.nan)), "holds NaN or infinite voxels"),
    "infinite": (lambda d: volume(d / "a.nii.gz", with_voxel(np.inf)), "holds NaN or infinite voxels"),
    "minus infinite": (lambda d: volume(d / "a.nii.gz", with_voxel(-np.inf)), "holds NaN or infinite voxels"),
    "float64 beyond float32": (
        lambda d: volume(d / "a.nii.gz", voxels().astype(np.float64) * 1e300),
        "holds NaN or infinite voxels",
    ),
    "four axes": (lambda d: volume(d / "a.nii.gz", voxels(0, (16, 16, 6, 3))), "expected a 3D volume of one channel"),
    "two axes": (lambda d: volume(d / "a.nii.gz", voxels(0, (16, 16))), "expected a 3D volume of one channel"),
    "no slice": (lambda d: volume(d / "a.nii.gz", voxels(0, (16, 16, 0))), "expected a 3D volume of one channel"),
    "colours": (lambda d: typed(d / "a.nii.gz", COLOURS), "expected one real number per voxel, got colours"),
    "complex numbers": (
        lambda d: typed(d / "a.nii.gz", np.complex64),
        "number per voxel, got complex numbers",
    ),
    "no affine": (lambda d: volume(d / "a.nii.gz", affine=None), "its header holds no affine"),
    "Analyze 7.5": (lambda d: analyze(d / "a.hdr"), "expected NIfTI, got Analyze 7.5, which has no orientation"),
    "MetaImage without orientation": (
        lambda d: unoriented(d / "a.mha", b"TransformMatrix"),
        "its header holds no orientation (space of NRRD, TransformMatrix of MetaImage)",
    ),
    "NRRD without orientation": (lambda d: unoriented(d / "a.nrrd", b"space"), "its header holds no orientation"),
    "affine that cannot be inverted": (lambda d: volume_with(d / "a.nii", srow_z=FLAT), "cannot be inverted"),
    "affine of NaN": (lambda d: volume_with(d / "a.nii", srow_z=[np.nan] * 4), "cannot be inverted"),
    "JPEG that viewers turn": (lambda d: photograph(d / "a.jpg", turned=True), "viewers turn it, as its EXIF says"),
    "JPEG cut off": (lambda d: halved(photograph(d / "a.jpg")), "the picture is cut off"),
    "MetaImage of other voxels": (lambda d: flipped(compressed(d / "a.mha"), -1), "incorrect data check"),
    "DICOM with a slice cut off": (lambda d: cut_slice(d / "a"), "1 of its DICOM files cannot be read as slices"),
    "DICOM with another pixel": (lambda d: tagged(d / "a", "0028|0030", "0.5\\0.5"), "have another PixelSpacing than"),
    "DICOM with a turned slice": (
        lambda d: tagged(d / "a", "0020|0037", "0\\1\\0\\1\\0\\0"),
        "have another ImageOrientationPatient than the first",
    ),
    "DICOM with a screenshot": (lambda d: with_capture(d / "a"), "have another SamplesPerPixel than the first"),
    "DICOM with all slices in one file": (lambda d: frames(d / "a"), "enhanced or multi-frame DICOM file, with 4"),
    "DICOM without a slice": (lambda d: series(d / "a", leave_out=[2]), "slices are missing"),
    "DICOM with two series": (lambda d: two_series(d / "a"), "expected one DICOM series in the folder, found 2"),
    "DICOM with a torn slice": (lambda d: torn_slice(d / "a"), "1 of its DICOM files cannot be read as slices"),
    "empty folder as DICOM": (lambda d: empty(d / "a"), "expected one DICOM series in the folder, found 0"),
}
"""Images, all of which ``check`` calls unreadable."""

LABELS_OF_IMAGE: dict[str, tuple[Build, str, str]] = {
    "cut off": (lambda d: cut_off(volume(d / "l.nii.gz", organ()), 60), UNREADABLE, "label unreadable"),
    "NaN": (lambda d: volume(d / "l.nii.gz", with_voxel(np.nan)), "holds NaN", "label unreadable"),
    "colours": (lambda d: typed(d / "l.nii.gz", COLOURS), "got colours", "label unreadable"),
    "no affine": (lambda d: volume(d / "l.nii.gz", organ(), None), "no affine", "label unreadable"),
    "four axes": (lambda d: volume(d / "l.nii.gz", organ((16, 16, 6, 2))), "expected a 3D volume", "label unreadable"),
    "JPEG": (lambda d: photograph(d / "l.jpg"), "JPEG changes the values that it stores", "label unreadable"),
    "a slice less": (
        lambda d: volume(d / "l.nii.gz", organ((16, 16, 5))),
        "has another shape than the image: 16x16x5",
        "other grid",
    ),
    "other size in-plane": (
        lambda d: volume(d / "l.nii.gz", organ((16, 20, 6))),
        "Export one of them again, so that both lie on one grid",
        "other grid",
    ),
    "mirrored": (
        lambda d: volume(d / "l.nii.gz", organ(), np.diag([-1.0, 1.0, 2.0, 1.0])),
        "is stored as LAS, the image",
        "flipped label",
    ),
    "of fractions": (lambda d: volume(d / "l.nii.gz", organ() * 0.5), "values that are not ids: 0.5", "no label"),
    "beyond any id": (
        lambda d: volume(d / "l.nii.gz", organ() * 5e12),
        "values that are not ids: 5e+12, 1e+13",
        "no label",
    ),
    "below zero": (
        lambda d: volume(d / "l.nii.gz", -organ().astype(np.int16)),
        "values that are not ids: -2, -1",
        "no label",
    ),
}
"""Labels of a good image, and the kind of problem that ``check`` calls them."""


def good_pair(folder: Path) -> tuple[Path, Path]:
    return volume(folder / "good.nii.gz", voxels(1)), volume(folder / "good_label.nii.gz", organ())
