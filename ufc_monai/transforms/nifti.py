"""Reading NIfTI, but for headers from which nonsense would be read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from monai.data.image_reader import NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.utils import ensure_tuple, optional_import

from ufc_monai.errors import InputError

nib, _ = optional_import("nibabel")

__all__ = ["NiftiReader"]


class NiftiReader(NibabelReader):
    """MONAI's reader of NIfTI; it refuses voxels that are no single real numbers, and a header without an affine.

    Where the sform does not fit the voxel sizes, MONAI takes the qform in its place. This reader does so only if the
    header says that there is one.
    """

    def read(self, data: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], **kwargs: Any) -> Any:
        """Read one file, or several.

        Args:
            data: their paths.
            kwargs: of ``nibabel.load``.

        Raises:
            InputError: if the header says that the voxels are no scalars, or not how they lie.
        """
        self.filenames = ensure_tuple(data)
        images = [_usable(nib.load(name, **{**self.kwargs, **kwargs})) for name in self.filenames]
        return images if len(images) > 1 else images[0]


def _usable(image: Any) -> Any:
    name, kind, header = image.get_filename(), image.get_data_dtype(), image.header
    if kind.names or kind.kind == "c":
        found = "colours" if kind.names else "complex numbers"
        raise InputError(f"{name}: expected one real number a voxel, got {found}. Export the grey values alone.")
    if not (header["sform_code"] or header["qform_code"]):
        raise InputError(
            f"{name}: its header holds no affine (qform and sform codes are 0), so that nobody knows which slices are "
            "axial. Export it anew with its position."
        )
    return correct_nifti_header_if_necessary(image) if header["qform_code"] else image
