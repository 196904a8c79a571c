"""What is in the files of a data set: sizes, values, labels, and what is odd about them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import NIFTI, PICTURES, suffix_of
from ufc_monai.base.sample import spread
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.problems import Problem, count_values, label_problems, value_problems
from ufc_monai.data.store import read_together, stored_bytes
from ufc_monai.transforms.labels import RemapLabels
from ufc_monai.transforms.pictures import refuse_lossy
from ufc_monai.transforms.reader import NiftiReader
from ufc_monai.transforms.volume import Grid, LoadVolume, label_fault

SAMPLED = 1e6
"""Voxels, about, that the percentiles are taken from."""
FEW_SLICES = 5
ODD_SPACING = 2.0
"""How many times larger or smaller than the median a spacing is when it is an outlier."""
TINY = 0.02
"""Millimetres above which patients' voxels measure along some axis."""


class Preview(NamedTuple):
    """One axial slice of a volume, indexed (x, y) in RAS orientation.

    Attributes:
        image: (H, W) or (H, W, 3) in the file's units.
        label: (H, W) ids, or ``None``.
        aspect: spacing along y divided by that along x.
    """

    image: NDArray[Any]
    label: NDArray[Any] | None
    aspect: float


@dataclass(frozen=True)
class VolumeFacts:
    """What is known of one volume after its files were read.

    Attributes:
        image: path of the image relative to the data set's folder.
        label: path of its label, or ``None``.
        patient: its patient.
        grid: where its voxels lie; ``None`` if the image cannot be read.
        hu: smallest value, 1st and 99th percentile (of a sample of voxels), largest value.
        label_voxels: number of voxels of each value of the label.
        problems: what is odd about it.
        seconds: that reading it took.
        preview: a slice of it, where one was asked for.
        digest, label_digest: hashes of voxels along the patient's axes; empty of what cannot be read.
    """

    image: str
    label: str | None
    patient: str
    grid: Grid | None = None
    hu: tuple[float, float, float, float] | None = None
    label_voxels: Mapping[float, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    seconds: float = 0.0
    preview: Preview | None = field(default=None, compare=False, repr=False)
    digest: str = field(default="", compare=False, repr=False)
    label_digest: str = field(default="", compare=False, repr=False)

    @property
    def slices(self) -> int:
        """Number of axial slices; 0 if the image cannot be read."""
        return self.grid.shape[2] if self.grid else 0


def inspect_cases(
    dataset_dir: str | os.PathLike[str],
    cases: Sequence[Case] | None = None,
    *,
    labels: Mapping[str, int] | None = None,
    background_labels: Sequence[int] = (),
    ignore_id: int | None = None,
    previews: int = 0,
    channels: int = 1,
) -> list[VolumeFacts]:
    """Read every volume of a data set once. Files that cannot be read are reported like the rest.

    Args:
        dataset_dir: folder of the data set.
        cases: the volumes to read; by default all that are in the folder.
        labels: ``{name: id}`` of the structures; ``None`` lets any id pass.
        background_labels: ids that become background.
        ignore_id: the id of voxels that do not count.
        previews: how many volumes, evenly spread, keep a slice to show.
        channels: 3 for pictures in colours.

    Returns:
        The facts, in the order of the cases.

    Raises:
        InputError: if the folder holds no volume, or ``labels`` and the other ids contradict each other.
    """
    cases = find_cases(dataset_dir) if cases is None else cases
    claimed = None if labels is None else RemapLabels(labels, background_labels, ignore_id).class_of
    shown = set(spread(len(cases), previews))

    def inspect(index: int) -> VolumeFacts:
        return _inspect(Path(dataset_dir), cases[index], claimed, index in shown, channels)

    sizes = [stored_bytes(Path(dataset_dir, case.image), case.label is not None) for case in cases]
    facts = read_together(inspect, sizes, "reading", leave=False)
    odd = defaultdict[str, list[Problem]](list)
    for image, problem in (*_same_content(facts), *_odd_spacing(facts)):
        odd[image].append(problem)
    return [replace(f, problems=(*f.problems, *odd[f.image])) for f in facts]


def _inspect(root: Path, case: Case, claimed: Mapping[int, int] | None, shown: bool, channels: int) -> VolumeFacts:
    """Read a volume and its label; whatever a broken file makes a reader raise is one of its problems."""
    began = time.monotonic()
    facts = VolumeFacts(case.image, case.label, case.patient)
    try:
        image, grid = _read(root / case.image, channels)
    except Exception as e:
        return replace(facts, problems=(Problem("unreadable", _reason(e, root / case.image)),))
    low, high = float(image.min()), float(image.max())
    problems = value_problems(low, high, channels)
    if grid.shape[2] < FEW_SLICES and suffix_of(case.image) not in PICTURES:
        problems.append(Problem("few slices", f"has few axial slices: {grid.shape[2]}."))
    label, voxels = None, Counter[float]()
    if case.label is not None:
        try:
            refuse_lossy(root / case.label)
            label, label_grid = _read(root / case.label)
            voxels = count_values(label)
            problems += label_problems(voxels, claimed)
            if fault := label_fault(grid, label_grid):
                problems.append(Problem(fault[0], f"its label {fault[1]}."))
        except Exception as e:
            problems.append(Problem("label unreadable", f"its label: {_reason(e, root / case.label)}"))
    return replace(
        facts,
        grid=grid,
        hu=(low, *_percentiles(image), high),
        label_voxels=dict(voxels),
        problems=tuple(problems),
        preview=_preview(image, label, grid) if shown else None,
        digest=_digest(image),
        label_digest="" if label is None else _digest(label),
        seconds=time.monotonic() - began,
    )


def _read(path: Path, channels: int = 1) -> tuple[NDArray[np.float32], Grid]:
    """A volume along the patient's axes right, front and head (a view of the file's order; colours last), its grid."""
    volume = LoadVolume(channels)(path)
    array = volume.as_tensor().numpy()
    array = array[0] if channels == 1 else np.moveaxis(array, 0, -1)
    turned: NDArray[np.float32] = nib.apply_orientation(array, nib.io_orientation(volume.affine.numpy()))
    return turned, Grid.of(volume.affine, array.shape[:3])


def _percentiles(image: NDArray[np.float32]) -> tuple[float, float]:
    step = int(np.ceil((image.size / SAMPLED) ** (1 / image.ndim)))
    low, high = np.percentile(image[::step, ::step, ::step], [1, 99])
    return float(low), float(high)


def _preview(image: NDArray[np.float32], label: NDArray[np.float32] | None, grid: Grid) -> Preview:
    """The middle of the slices that hold a label, or else of all."""
    if label is not None and label.shape != image.shape[:3]:
        label = None
    held = range(image.shape[2]) if label is None else np.flatnonzero(label.any(axis=(0, 1)))
    index = int(held[len(held) // 2]) if len(held) else image.shape[2] // 2
    ids = None if label is None else label[..., index].copy()
    return Preview(image[:, :, index].copy(), ids, grid.spacing[1] / grid.spacing[0])


def _same_content(facts: Sequence[VolumeFacts]) -> Iterator[tuple[str, Problem]]:
    """Images with the same voxels, in whatever format; and labels of different images, which are of one at most."""
    first_of, drawn_first = dict[str, VolumeFacts](), dict[str, VolumeFacts]()
    for f in facts:
        if f.digest and (first := first_of.setdefault(f.digest, f)) is not f:
            kind = "same content" if f.patient != first.patient else "same content, same patient"
            yield f.image, Problem(kind, f"has the same content as {first.image}.")
        first = drawn_first.setdefault(f.label_digest, f) if f.label_digest else f
        if first.digest != f.digest and first.patient != f.patient:  # phases of one scan may share a label
            yield f.image, Problem("same label", f"its label has the same content as that of {first.image}.")


def digests_of_alike(root: Path, images: Sequence[str]) -> dict[str, str]:
    """What tells the voxels of some images apart.

    Args:
        root: the data set's folder.
        images: paths relative to it.

    Returns:
        Of those alone that another has the shape and the middle slices of: the others are not read as a whole.
    """
    sizes = {image: stored_bytes(root / image, labelled=False) for image in images}
    alike = _shared({image: str(size) for image, size in sizes.items() if size})
    for digest in (_glimpse, lambda path: _digest(_read(path)[0])):
        alike = _shared(_of_each(digest, root, {image: sizes[image] for image in alike}))
    return alike


def _shared(found: Mapping[str, str]) -> dict[str, str]:
    common = Counter(found.values())
    return {image: one for image, one in found.items() if one and common[one] > 1}


def _of_each(digest: Callable[[Path], str], root: Path, sizes: Mapping[str, int]) -> dict[str, str]:
    """The digest of each image; nothing of one that cannot be read, as whoever opens it will say."""
    images = list(sizes)

    def found(index: int) -> str:
        try:
            return digest(root / images[index])
        except Exception:
            return ""

    digests = read_together(found, list(sizes.values()), "comparing volumes", leave=False)
    return dict(zip(images, digests, strict=True))


def _glimpse(path: Path) -> str:
    """A hash of the shape along the patient's axes and of the middle axial slices: of NIfTI nothing behind is read."""
    if suffix_of(path) not in NIFTI:
        whole = _read(path)[0]
        return _hash(whole[:, :, _middle(whole.shape[2])], whole.shape[2])
    image = NiftiReader().read(path)
    with image.file_map["image"].fileobj or contextlib.nullcontext():
        turn = nib.io_orientation(image.affine)
        axis = int(np.flatnonzero(turn[:, 0] == 2)[0])
        cut = [_middle(n) if i == axis else slice(None) for i, n in enumerate(image.shape)]
        part = np.asarray(image.dataobj[tuple(cut)], np.float32)
    return _hash(nib.apply_orientation(part.reshape(part.shape[:3]), turn), image.shape[axis])


def _middle(n: int) -> slice:
    """The middle one or two of n slices, in whichever direction they are counted."""
    return slice((n - 1) // 2, n // 2 + 1)


def _digest(image: NDArray[np.float32]) -> str:
    """A hash of the voxels along the patient's axes.

    Nothing of a volume of one value, which is like any other of its shape.
    """
    return "" if image.min() == image.max() else _hash(image, image.shape[2])


def _hash(image: NDArray[np.float32], slices: int) -> str:
    """A hash of some axial slices, one by one: a volume may be a view in any order."""
    digest = hashlib.sha256(repr((*image.shape[:2], slices)).encode())
    for axial in np.moveaxis(image, 2, 0):
        digest.update(np.ascontiguousarray(axial).data)
    return digest.hexdigest()


def _odd_spacing(facts: Sequence[VolumeFacts]) -> Iterator[tuple[str, Problem]]:
    spacings = {f.image: np.array(f.grid.spacing) for f in facts if f.grid}
    usual = np.median([*spacings.values()] or [np.ones(3)], axis=0)
    for image, spacing in spacings.items():
        if (np.maximum(spacing / usual, usual / spacing) > ODD_SPACING).any():
            text = f"its voxels measure {_mm(spacing)} mm, those of most volumes {_mm(usual)} mm."
            yield image, Problem("odd spacing", text)
        elif (spacing < TINY).all():
            yield image, Problem("odd spacing", f"its voxels measure {_mm(spacing)} mm: is its header in metres?")


def _mm(spacing: NDArray[np.float64]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)


def _reason(error: Exception, path: Path) -> str:
    """What an error says, without the path that stands before it."""
    text = str(error) if isinstance(error, InputError) else f"cannot be read ({error})."
    return text.removeprefix(f"{path}: ")
