"""From a volume's file to its axial slices: load, check where its voxels lie, cut."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, LoadImaged, MapTransform, Transform
from monai.utils import MetaKeys, optional_import
from numpy.typing import NDArray
from torch import Tensor

from ufc_monai.base.errors import BadFileError, InputError
from ufc_monai.transforms.pictures import refuse_lossy
from ufc_monai.transforms.reader import AsStored, reader_for

nib, _ = optional_import("nibabel")

logger = logging.getLogger(__name__)


TOLERANCE = 0.5
"""How far apart grids may lie that count as one, as a share of the smallest spacing."""
GRID_ADVICE = {
    "other grid": "Export one of them again, so that both lie on one grid.",
    "flipped label": "Write the label again with the image's header: training would learn a mirrored label.",
    "label elsewhere": "Image and label are matched voxel by voxel; check on the preview that they fit.",
}
"""What to do about each kind of :func:`label_fault`."""


@contextmanager
def _without_codec() -> Iterator[None]:
    """Where pydicom is installed, MONAI makes a reader that logs and warns of a missing GPU codec; nothing uses it."""
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register")
        yield


class LoadVolume(LoadImage):
    """MONAI's ``LoadImage`` for 3D volumes and pictures, channel first, with errors that name the file.

    NIfTI is read by nibabel, everything else by :class:`SimpleITKReader`. A picture is a volume of one slice.

    Args:
        channels: 1 for volumes and grey pictures, 3 for colour pictures.
        dtype: of the voxels; ``None`` leaves whole numbers as the file has them, mind their overflow, and makes float32
            of all others.

    Raises:
        InputError: if ``channels`` is neither 1 nor 3; when called, if the file has an unknown format, cannot be read,
            is not a 3D volume of ``channels``, has no invertible affine, or holds NaN or infinite voxels.
    """

    def __init__(self, channels: int = 1, dtype: DtypeLike | torch.dtype = np.float32) -> None:
        with _without_codec():
            super().__init__(image_only=True, ensure_channel_first=True, dtype=dtype)
        if channels not in (1, 3):
            raise InputError(f"channels must be 1, or 3 for colour pictures; got {channels!r}.")
        self.channels = channels

    def __call__(self, filename: Any, reader: Any = None) -> Any:
        """Load a file, or the folder of a DICOM series, into a ``MetaTensor`` (channels, H, W, D).

        Its voxels lie in memory in the order of the file.

        Args:
            filename: its path.
            reader: a MONAI reader; ``None`` for the one that the path asks for.
        """
        reader = reader or reader_for(Path(filename).expanduser(), self.channels)
        try:
            loaded = super().__call__(filename, AsStored(reader))
            volume = loaded if self.image_only else loaded[0]
            volume = volume.permute(0, *range(volume.ndim - 1, 0, -1))
            self._check(filename, volume)
        except InputError as e:
            raise BadFileError(str(e)) from e
        except Exception as e:
            raise BadFileError(
                f"{filename}: cannot be read as a volume ({_last_line(e)}). Copy the file again or remove it."
            ) from e
        return volume if self.image_only else (volume, loaded[1])

    def _check(self, filename: Any, volume: MetaTensor) -> None:
        """Refuse a wrong shape, an affine that cannot be inverted, and voxels that are not finite."""
        if volume.ndim != 4 or volume.shape[0] != self.channels:
            wanted = "one channel" if self.channels == 1 else f"{self.channels} channels"
            raise InputError(
                f"{filename}: expected a 3D volume of {wanted}, got shape {tuple(volume.shape[1:])} with "
                f"{volume.shape[0]} channels."
            )
        if not is_invertible(volume.affine.numpy()):
            raise InputError(
                f"{filename}: the affine in its header cannot be inverted: its position is unknown. Export it again."
            )
        if volume.is_floating_point() and not all(map(np.isfinite, _ends(volume))):
            raise InputError(f"{filename}: holds NaN or infinite voxels. Replace them (-1024 HU is air) or remove it.")


class LoadVolumed(LoadImaged):
    """Dictionary twin of :class:`LoadVolume`; it also checks that all keys lie on one grid.

    A label whose file has its axes in another order or direction is turned to those of the image's file, so that voxels
    of the two are the same place.

    Args:
        keys: keys of the file paths, the image first.
        allow_missing_keys: leave out keys that an item lacks.
        channels: of the image; a label has one.
        window: the values that the network tells apart. An image whose values are all the same, or none of which is
            below 0 although the window begins there, gets a warning.
        dtype: as in :class:`LoadVolume`.

    Raises:
        InputError: as :class:`LoadVolume`, and if a label differs from its image in shape, or in both orientation and
            position.
    """

    def __init__(
        self,
        keys: KeysCollection,
        allow_missing_keys: bool = False,
        channels: int = 1,
        window: Sequence[float] | None = None,
        dtype: DtypeLike | torch.dtype = np.float32,
    ) -> None:
        with _without_codec():
            super().__init__(keys, image_only=True, allow_missing_keys=allow_missing_keys)
        self.window = window
        self._loader = LoadVolume(channels, dtype)
        self._label_loader = LoadVolume(dtype=dtype)

    def __call__(self, data: Mapping[str, Any], reader: Any = None) -> dict[str, Any]:
        """Load every key."""
        d = dict(data)
        first, *others = list(self.key_iterator(d))
        loaded = self._loader(d[first], reader)
        # MONAI Label sets image_only to False on the image's loader
        d[first] = loaded if self._loader.image_only else loaded[0]
        if self.window is not None:
            _warn_of_values(d[first], self.window, data[first])
        for key in others:
            label = self._label_loader(d[key], reader)
            _check_grids(d[first], label, data[first], data[key])
            d[key] = _stored_like(label, d[first])
        return d


class AxialSlices(Transform):
    """Cut a volume (C, H, W, D) into its D axial slices (C, H, W), from inferior to superior.

    The volume has to be in RAS orientation by now, so that the last axis runs from feet to head.
    """

    def __call__(self, volume: Tensor) -> list[Tensor]:
        """Return D plain tensors; they share the volume's memory."""
        return list(volume.as_subclass(Tensor).unbind(dim=-1))


class AxialSlicesd(MapTransform):
    """Dictionary twin of :class:`AxialSlices`: one item in, a list of slice items out.

    A slice item holds the cut ``keys`` and

    - ``id``: ``"<image>#<index>"``, the image's path relative to ``root`` and the slice's index from the feet up;
    - ``patient``: the item's ``patient`` if it has one, else the image's path in the id;
    - ``position``: (index + 0.5) / number of slices, in (0, 1).

    What stands before this transform in a ``SliceDataset`` runs once a volume, what stands behind it once a sample.

    Args:
        keys: keys of the volumes, the image first.
        root: folder that the path in the id is relative to; a file elsewhere keeps its absolute path.
        allow_missing_keys: leave out keys that an item lacks.
    """

    def __init__(
        self, keys: KeysCollection, root: str | os.PathLike[str] = "", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.root = os.fspath(root)
        self.slices = AxialSlices()

    def __call__(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Cut one item."""
        volumes = {key: self.slices(data[key]) for key in self.key_iterator(dict(data))}
        name = self.image_name(data)
        patient = str(data.get("patient", name))
        n = len(volumes[self.keys[0]])
        return [
            {key: volume[i] for key, volume in volumes.items()}
            | {"id": f"{name}#{i}", "patient": patient, "position": (i + 0.5) / n}
            for i in range(n)
        ]

    def image_name(self, data: Mapping[str, Any]) -> str:
        """The image's path as it stands in the slice ids.

        Args:
            data: an item before loading (its image is a path) or after it (its image knows its file).
        """
        image = data[self.keys[0]]
        path = os.path.abspath(image.meta["filename_or_obj"] if isinstance(image, MetaTensor) else image)
        inside = os.path.relpath(path, os.path.abspath(self.root or os.curdir))
        return path if inside.startswith(os.pardir) else inside.replace(os.sep, "/")


def _ends(volume: MetaTensor) -> tuple[float, float]:
    """The smallest and the largest value, NaN if one is that. NumPy needs no copy of what lies in another order."""
    voxels = np.asarray(volume)
    return float(voxels.min()), float(voxels.max())


def _warn_of_values(image: MetaTensor, window: Sequence[float], path: Any) -> None:
    """Say that what the network is about to see cannot be what it was meant for."""
    low, high = _ends(image)
    if low == high:
        logger.warning("%s: all its voxels have the value %g: nothing can be seen in it", path, low)
    elif window[0] < 0 <= low:
        logger.warning(
            "%s: its values, %g to %g, are never below 0, and the window begins at %g: they are no Hounsfield units. "
            "Of a CT scan, apply the rescale slope and intercept; masks of such values are wrong.",
            *(path, low, high, window[0]),
        )


def _check_grids(image: MetaTensor, label: MetaTensor, image_path: Any, label_path: Any) -> None:
    """Refuse a label that does not lie on its image; one that is merely shifted, by its header, gets a warning."""
    refuse_lossy(label_path)
    fault = label_fault(*(Grid.of(volume.affine, volume.shape[1:]) for volume in (image, label)))
    if fault is None:
        return
    kind, text = fault
    named = f"{label_path}: the label of {image_path} {text}"
    if kind != "label elsewhere":
        raise BadFileError(f"{named}. {GRID_ADVICE[kind]}")
    logger.warning("%s; voxels are matched one by one", named)


def _stored_like(label: MetaTensor, image: MetaTensor) -> MetaTensor:
    """A label on the axes of the image's file: its header may have others, on the same grid."""
    mine, other = (nib.io_orientation(np.asarray(volume.affine)) for volume in (label, image))
    turn = nib.orientations.ornt_transform(mine, other)
    if np.array_equal(mine, other):
        return label
    array = nib.apply_orientation(np.asarray(label)[0], turn).copy()[None]
    affine = np.asarray(label.affine) @ nib.orientations.inv_ornt_aff(turn, label.shape[1:])
    return MetaTensor(torch.from_numpy(array), meta={**label.meta, MetaKeys.AFFINE: torch.from_numpy(affine)})


def _last_line(error: Exception) -> str:
    """The last line of an error's text: MONAI quotes whole tracebacks, whose reason stands there."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip()[:160] if lines else type(error).__name__


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        stored_shape: as in the file.
        orientation: of the file's axes, e.g. ``"LPS"``.
        shape: along the patient's axes right, front and head.
        affine: (4, 4), of those axes, mm.
    """

    stored_shape: tuple[int, ...]
    orientation: str
    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    @classmethod
    def of(cls, affine: Any, shape: Sequence[int]) -> Grid:
        """The grid of a file, by its affine (4, 4) and its shape."""
        affine = np.asarray(affine, dtype=np.float64)
        turn = nib.io_orientation(affine)
        turned = affine @ nib.orientations.inv_ornt_aff(turn, tuple(shape))
        axes = "".join(nib.aff2axcodes(affine))
        return cls(tuple(shape), axes, tuple(shape[i] for i in np.argsort(turn[:, 0])), turned)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of voxels along the patient's axes right, front and head, mm."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())


def is_invertible(affine: NDArray[Any]) -> bool:
    """Whether an affine (4, 4) is finite and gives every voxel a place of its own."""
    return bool(np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3)


def label_fault(image: Grid, label: Grid) -> tuple[str, str] | None:
    """What is wrong with where a label lies: one of the kinds of :data:`GRID_ADVICE`, and what the label does.

    A label that lies elsewhere by its header alone can be used; the others cannot.
    """
    if image.stored_shape != label.stored_shape:
        stored = " and ".join("x".join(map(str, grid.stored_shape)) for grid in (label, image))
        return "other grid", f"has another shape than the image: {stored} voxels"
    # the first voxel, and the last one along each axis
    apart = float(np.abs((image.affine - label.affine)[:3] * [*image.shape, 1]).max())
    if apart <= TOLERANCE * min(image.spacing):
        return None
    if image.orientation != label.orientation:
        return "flipped label", f"is stored as {label.orientation}, the image as {image.orientation}, on another grid"
    return "label elsewhere", f"lies up to {apart:.1f} mm from the image by its header"
