"""Readers: NIfTI through nibabel; NRRD, MetaImage, DICOM series and pictures through SimpleITK."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader, NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary, orientation_ras_lps
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple, optional_import
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import DETACHED, DICOM, FORMATS, HEADER, NIFTI, PICTURES, dicom_files, parts_of, suffix_of
from ufc_monai.transforms.pictures import check_picture, picture_as_slice
from ufc_monai.transforms.series import read_header, read_series, simple_itk

nib, _ = optional_import("nibabel")
igzip, quicker = optional_import("isal.igzip")

UNITS = {1: "metres", 3: "micrometres"}
"""NIfTI's codes of units of length that are not millimetres."""
ORIENTED = re.compile(rb"^((?i:space:)|(TransformMatrix|Rotation|Orientation)\s*=)", re.MULTILINE)
"""The line of NRRD's header, or MetaImage's, by which axes are those of a patient."""
PIECE = 2**20
"""Bytes that are read at once of what is not kept."""


class NiftiReader(NibabelReader):
    """MONAI's reader of NIfTI, without colours, complex numbers and headers whose affine is missing or uncertain.

    Where the sform does not fit the voxel sizes, MONAI takes the qform in its place. This reader does so only if the
    header says that there is one. A compressed file is read to its end, where its checksum stands.
    """

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read one file, or several.

        Args:
            data: their paths.
            kwargs: of ``nibabel.load``.

        Raises:
            InputError: if voxels are not real numbers, or the header has no affine, two that contradict each other,
                or one that is not in millimetres.
        """
        self.filenames = ensure_tuple(data)
        images = [_usable(_unread(nib.load(name, **{**self.kwargs, **kwargs}))) for name in self.filenames]
        return images if len(images) > 1 else images[0]

    def _get_array_data(self, img: Any, filename: Any) -> NDArray[Any]:
        """The voxels in the order of the file, which MONAI copies to another."""
        array: NDArray[Any] = np.asanyarray(img.dataobj)
        return array

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """The voxels and the meta data of what was read.

        Raises:
            OSError: if a compressed file is not what its checksum was taken of.
        """
        loaded: tuple[NDArray[Any], dict[str, Any]] = super().get_data(img)
        for image in ensure_tuple(img):
            if (stream := image.file_map["image"].fileobj) is not None:
                with stream:
                    while stream.read(PIECE):  # nibabel stops behind the last voxel
                        pass
        return loaded


class SimpleITKReader(ImageReader):
    """A MONAI reader for NRRD, MetaImage, folders with one DICOM series, single DICOM files, and pictures (PNG, JPEG).

    Arrays are indexed (x, y, z) and the affine is RAS, as nibabel's are for the same volume. DICOM values are rescaled
    (Hounsfield units for CT) and its slices are sorted by position. A picture becomes a volume of one slice, with an
    affine such that it stands upright where radiologists' pictures do.

    Args:
        channels: 1 makes colours grey (luminance), 3 keeps red, green and blue and gives them to grey pictures, too.
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels

    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:
        """Whether all of these are files or folders for this reader."""
        names = [Path(name) for name in ensure_tuple(filename)]
        return all(name.is_dir() or suffix_of(name) not in ("", *NIFTI) for name in names)

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> Any:
        """Read one file or folder into a SimpleITK image of three dimensions.

        Raises:
            InputError: if it is not a 3D volume of one channel, or a folder does not hold one whole DICOM series.
        """
        (path,) = (Path(name) for name in ensure_tuple(data))
        if path.is_dir() or suffix_of(path) in DICOM:
            image = read_series(path)
        else:
            image = simple_itk(path).ReadImage(path)
            if suffix_of(path) in PICTURES:
                check_picture(path)
                return picture_as_slice(image, self.channels)
            _check_oriented(path)
            if suffix_of(path) in (".mha", ".mhd"):
                _check_inflated(path)
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise InputError(
                f"{path}: expected a 3D volume of one channel, got shape {image.GetSize()} with "
                f"{image.GetNumberOfComponentsPerPixel()} channels."
            )
        return image

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """The voxels, (x, y, z) or (colour, x, y, z), and the meta data that MONAI's ``LoadImage`` expects."""
        array: NDArray[Any] = simple_itk().GetArrayFromImage(img).T
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(img.GetDirection(), (3, 3)) * img.GetSpacing()
        affine[:3, 3] = img.GetOrigin()
        affine = orientation_ras_lps(affine)
        return array, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(array.shape[-3:]),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: 0 if array.ndim == 4 else float("nan"),  # MONAI's word for no channel
        }


def reader_for(path: str | os.PathLike[str], channels: int = 1) -> ImageReader:
    """A reader for a file or folder, by its suffix.

    Args:
        path: the file or folder.
        channels: 1, or 3 for a colour picture.

    Raises:
        InputError: if the format is unknown, or a volume is to be read in colours.
    """
    if channels != 1 and suffix_of(path) not in PICTURES:
        raise InputError(
            f"{path}: channels {channels} is for colour pictures ({', '.join(PICTURES)}), not for volumes: pass "
            "--channels 1, or take another --preset."
        )
    if suffix_of(path) in NIFTI:
        return NiftiReader(mmap=False)  # or a file cut off meanwhile would end the process
    reader = SimpleITKReader(channels)
    if not reader.verify_suffix(path):
        raise InputError(f"{path}: expected one of {FORMATS}.")
    return reader


class AsStored(ImageReader):
    """What another reader reads, its axes in reverse: in the order of the file, so that nothing need be copied.

    Whole numbers stay what they are; all others become float32.

    Args:
        reader: the other one; what it hands over is indexed (x, y, z) or (colour, x, y, z).
    """

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader

    def verify_suffix(self, filename: Any) -> bool:
        """Whether the other reader reads it."""
        return bool(self.reader.verify_suffix(filename))

    def read(self, data: Any, **kwargs: Any) -> Any:
        """What the other reader makes of a file."""
        return self.reader.read(data, **kwargs)

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """The voxels, (z, y, x) or (z, y, x, colour), and the meta data."""
        array, meta = self.reader.get_data(img)
        kind = array.dtype.newbyteorder("=") if array.dtype.kind in "iu" else np.float32
        if array.ndim > 3:
            meta[MetaKeys.ORIGINAL_CHANNEL_DIM] = -1 if meta[MetaKeys.ORIGINAL_CHANNEL_DIM] == 0 else 0
        with np.errstate(over="ignore"):  # infinite voxels are refused by their name
            return array.astype(kind, copy=False).T, meta


def opened(path: str | os.PathLike[str]) -> Any:
    """A .gz file, opened to be inflated: by isal where it is installed, which is quicker."""
    return (igzip if quicker else gzip).open(path)


def stored_shape(path: Path) -> tuple[int, ...]:
    """Numbers whose product is that of a volume's voxels, read from its header alone; colours count, too."""
    if suffix_of(path) in NIFTI:
        return tuple(nib.load(path).shape)
    files = dicom_files(path) if path.is_dir() else [path]
    header = read_header(files[0])
    return (*header.GetSize(), len(files), header.GetNumberOfComponents())


def _unread(image: Any) -> Any:
    """The same image, if it is compressed on a stream that can be read to its end."""
    if suffix_of(name := image.get_filename()) != ".nii.gz":
        return image
    return type(image).from_file_map({"image": nib.FileHolder(name, opened(name))})


def _usable(image: Any) -> Any:
    name, kind, header = image.get_filename(), image.get_data_dtype(), image.header
    if kind.names or kind.kind == "c":
        found = "colours" if kind.names else "complex numbers"
        raise InputError(f"{name}: expected one real number per voxel, got {found}. Export the grey values alone.")
    if not isinstance(image, nib.Nifti1Pair):
        header_file = image.file_map["header"].filename
        raise InputError(
            f"{header_file}: expected NIfTI, got Analyze 7.5, which has no orientation. Export it as NIfTI."
        )
    if not (header["sform_code"] or header["qform_code"]):
        raise InputError(
            f"{name}: its header holds no affine (qform and sform codes are 0): its orientation is unknown. Export it "
            "again with its position."
        )
    if unit := UNITS.get(int(header["xyzt_units"]) % 8):
        raise InputError(f"{name}: its header measures in {unit}, expected millimetres. Export it again in these.")
    if header["sform_code"] and header["qform_code"]:
        sform, qform = ("".join(nib.aff2axcodes(affine)) for affine in (header.get_sform(), header.get_qform()))
        if sform != qform:
            raise InputError(
                f"{name}: by its sform it is stored as {sform}, by its qform as {qform}: it may be mirrored. Export it "
                "again with one of them, or with both alike."
            )
    return correct_nifti_header_if_necessary(image) if header["qform_code"] else image


def _check_oriented(path: Path) -> None:
    """Refuse a header that does not say how the voxels lie in the patient, in whose place ITK takes a guess."""
    if not ORIENTED.search(_header(path)):
        raise InputError(
            f"{path}: its header holds no orientation (space of NRRD, TransformMatrix of MetaImage): left and right "
            "are unknown. Export it again with its position."
        )


def _header(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(HEADER)


def _check_inflated(path: Path) -> None:
    """Compare the checksum of compressed voxels, which ITK does of NRRD and not of MetaImage."""
    header = _header(path)
    if not re.search(rb"^CompressedData\s*=\s*[Tt1]", header, re.MULTILINE):
        return
    for number, part in enumerate(parts_of(path)):
        local = DETACHED.search(header) if number == 0 else None
        if number == 0 and (local is None or local[1] != b"LOCAL"):
            continue
        inflater = zlib.decompressobj()
        with open(part, "rb") as file:
            file.seek(header.index(b"\n", local.end(1)) + 1 if local else 0)
            while piece := file.read(PIECE):
                inflater.decompress(piece)
        if not inflater.eof:
            raise EOFError("its compressed voxels end too early")
