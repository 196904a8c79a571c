"""Reading NIfTI, but for headers from which nonsense would be read."""

from __future__ import annotations

from typing import Any

from monai.data.image_reader import NibabelReader
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from ufc_monai.errors import InputError

__all__ = ["NiftiReader"]


class NiftiReader(NibabelReader):
    """MONAI's reader of NIfTI; it refuses voxels that are no single real numbers, and a header without an affine."""

    def get_data(self, img: Any) -> tuple[NDArray[Any], dict[str, Any]]:
        """The voxels and the meta data.

        Raises:
            InputError: if the header says that they are no scalars, or not how they lie.
        """
        for image in ensure_tuple(img):
            _check_header(image)
        array, meta = super().get_data(img)
        return array, meta


def _check_header(image: Any) -> None:
    name, kind = image.get_filename(), image.get_data_dtype()
    if kind.names or kind.kind == "c":
        found = "colours" if kind.names else "complex numbers"
        raise InputError(f"{name}: expected one real number a voxel, got {found}. Export the grey values alone.")
    codes = [int(image.header[code]) for code in ("qform_code", "sform_code") if code in image.header]
    if not any(codes):
        raise InputError(
            f"{name}: its header holds no affine (qform and sform codes are 0), so that nobody knows which slices are "
            "axial. Export it anew with its position."
        )
