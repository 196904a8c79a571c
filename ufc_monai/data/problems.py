"""What can be odd about volumes, in plain sentences, pictures that are there twice, and going on without bad files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray
from tqdm.contrib.concurrent import thread_map

from ufc_monai.base.errors import BadFileError, InputError
from ufc_monai.data.case import ROLES, Case
from ufc_monai.data.datalist import image_items
from ufc_monai.transforms.labels import IGNORE, few, is_id
from ufc_monai.transforms.volume import GRID_ADVICE

Image, _ = optional_import("PIL.Image")
dctn, _ = optional_import("scipy.fft", name="dctn")

logger = logging.getLogger(__name__)

ADVICE = {
    "unreadable": "Nothing can be trained until it is mended.",
    "label unreadable": "Nothing can be trained until it is mended.",
    "constant": "Export it again, or remove it.",
    "no label": "Export the label again, by the nearest voxel where it is resampled.",
    "unnamed ids": "Name them in --labels, or make them background with --background_labels.",
    "empty label": "If it is yet to be drawn, remove the label file: the volume then counts as unlabelled.",
    "same content": "Remove one of them: one scan under two patients' names leaks from training into the test.",
    "same content, same patient": "Remove one of them: it counts twice.",
    "same label": "Look on the preview on which of them it was drawn, and take the other away.",
    "8-bit": "Pictures are such: choose the --window to match, or --preset isic for those in colour. For CT, find the "
    "original volumes.",
    "clipped": "A window that reaches beyond that range wastes contrast: choose the --window within it.",
    "not HU": "For CT, apply the rescale slope and intercept; for anything else choose the --window to match.",
    "impossible HU": "Check its rescale slope and intercept; padding is best written as -1024.",
    "few slices": "Check that it is not a localiser or screenshot.",
    "odd spacing": "Check its header, and that it is the same kind of scan.",
    **GRID_ADVICE,
}
"""What to do about each kind of problem."""
LEAVE_OUT = "Or go on without such volumes: --skip_bad True."
"""What else can be done about a bad file."""
BAD_FILES = {"unreadable", "label unreadable", "constant", "other grid", "flipped label", "no label"}
"""Kinds that are of one volume's files alone, so that one may go on without it."""
BLOCKING = BAD_FILES | {"unnamed ids", "same content"}
"""Kinds that stop training, or make it learn nonsense."""
AIR = -200.0
"""A CT scan holds air, -1000 HU, around or within the body; one without anything below this was clipped."""
HU_RULES: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("8-bit", lambda low, high: low >= 0 and high <= 255, "look like 8-bit grey values, not HU"),
    ("impossible HU", lambda low, high: low < -5000 or high > 35000, "are impossible for HU"),
    ("not HU", lambda low, high: low >= 0, "are not HU, in which air is -1000: no value is below 0"),
    ("clipped", lambda low, high: low > AIR, "look clipped to a window: nothing outside it can be recovered"),
)
"""What the smallest and the largest value of an image tell: kind of problem, when, what the values do."""
MOST_IDS = 1000
"""A file with more values than that is not a label."""

SIDE = 32
"""Pixels of a side of the small grey picture that is hashed."""
KEPT = 8
"""Frequencies of a side that the hash looks at."""
ALIKE = 4
"""Bits of 64 that two encodings of one picture may differ in. Two pictures differ in half of them on average."""


@dataclass(frozen=True)
class Problem:
    """Something odd about one volume.

    Attributes:
        kind: one of the keys of :data:`ADVICE`.
        text: a plain sentence, without the name of the image.
    """

    kind: str
    text: str

    @property
    def blocking(self) -> bool:
        """Whether training would stop at it, or learn nonsense from it."""
        return self.kind in BLOCKING

    @property
    def bad_file(self) -> bool:
        """Whether the volume's files are bad, and ``skip_bad`` leaves it out."""
        return self.kind in BAD_FILES


def value_problems(low: float, high: float, channels: int = 1) -> list[Problem]:
    """What the range of an image's values tells: the first of :data:`HU_RULES` that holds, if any.

    Args:
        low: the smallest value.
        high: the largest.
        channels: 1, or 3 of a picture in colours, which has no Hounsfield units.
    """
    if low == high:
        return [Problem("constant", f"all its voxels have the value {low:g}: nothing can be seen in it.")]
    if channels != 1:
        return []
    found = ((kind, text) for kind, holds, text in HU_RULES if holds(low, high))
    return [Problem(kind, f"its values, {low:g} to {high:g}, {text}.") for kind, text in islice(found, 1)]


def count_values(label: NDArray[np.float32]) -> Counter[float]:
    """Voxels of each value of a label, (H, W, D), not of all once they are more than :data:`MOST_IDS`."""
    counts = Counter[float]()
    for axial in np.moveaxis(label, -1, 0):  # sorting a whole volume would take several times its memory
        values, voxels = np.unique(axial, return_counts=True)
        counts.update(dict(zip(values.tolist(), voxels.tolist(), strict=True)))
        if len(counts) > MOST_IDS:
            break
    return counts


def label_problems(voxels: Mapping[float, int], claimed: Mapping[Any, int] | None) -> list[Problem]:
    """What the values of a label tell.

    Args:
        voxels: number of voxels of each value.
        claimed: the class of each id that means something, 0 among them; ``None`` if that is not known.
    """
    strange = [value for value in voxels if not is_id(value)]
    if strange or len(voxels) > MOST_IDS:
        return [Problem("no label", f"its label holds values that are not ids: {few(strange or voxels)}.")]
    classes = claimed or {0: 0}
    if all(classes.get(value) in (0, IGNORE) for value in voxels):
        return [Problem("empty label", "its label is empty.")]
    unnamed = [value for value in voxels if claimed is not None and value not in claimed]
    return [Problem("unnamed ids", f"its label holds ids without a name: {few(unnamed)}.")] if unnamed else []


class Scans(NamedTuple):
    """What is to be segmented.

    Attributes:
        items: the images, as :func:`image_items` gives them.
        skipped: what is wrong with each image that was left out, by its path.
    """

    items: list[dict[str, str]]
    skipped: dict[str, str]


def bad_volumes(cases: Sequence[Case], dataset_dir: str | os.PathLike[str]) -> dict[str, str]:
    """What is wrong with each volume whose image or label is a bad file, by image. All files are read."""
    from ufc_monai.data.inspect import inspect_cases

    facts = inspect_cases(dataset_dir, cases)
    return {f.image: p.text for f in facts for p in f.problems if p.bad_file}


def without_bad(
    cases: Sequence[Case], dataset_dir: str | os.PathLike[str], skipped: Mapping[str, str] | None = None
) -> tuple[list[Case], dict[str, str]]:
    """The volumes that can be used, and what is wrong with each of the others, by image; a warning names each.

    Args:
        cases: all volumes.
        dataset_dir: their folder.
        skipped: what is wrong, where that is known already.

    Raises:
        InputError: if nothing is left; of the labels, or of those for training, validation or test, neither.
    """
    skipped = bad_volumes(cases, dataset_dir) if skipped is None else dict(skipped)
    for image, reason in skipped.items():
        logger.warning("skip_bad: %s is left out: %s", image, reason)
    good = [case for case in cases if case.image not in skipped]
    parts = {"": cases, "labelled ": [case for case in cases if case.label]}
    parts |= {f"labelled {role} ": [c for c in cases if c.role == role and c.label] for role in ROLES}
    for part, members in parts.items():
        if members and all(case.image in skipped for case in members):
            first = members[0].image
            raise InputError(
                f"skip_bad: none of the {len(members)} {part}volumes of {dataset_dir} can be used, so nothing is left "
                f"to go on with. First {first}: {skipped[first]}"
            )
    return good, skipped


def open_scans(dataset_dir: str | os.PathLike[str], unlabelled_only: bool = False, skip_bad: bool = False) -> Scans:
    """The images of a folder, for inference.

    Args:
        dataset_dir: as in :func:`image_items`.
        unlabelled_only: leave out the images that have a label.
        skip_bad: leave out those that cannot be read; all of them are read to find out.

    Raises:
        InputError: as :func:`image_items`, and if nothing is left.
    """
    items = image_items(dataset_dir, unlabelled_only)
    if not skip_bad:
        return Scans(items, {})
    cases = [Case(item["image"], None, item["patient"]) for item in items]
    _, skipped = without_bad(cases, dataset_dir)
    return Scans([item for item in items if item["image"] not in skipped], skipped)


def perceptual_hash(path: str | os.PathLike[str]) -> int:
    """64 bits that stay nearly the same if a picture is resized, encoded again or made brighter.

    They say which of the low frequencies of the grey picture, by the discrete cosine transform, are above their median.
    """
    try:
        with Image.open(path) as picture:
            picture.draft("L", (4 * SIDE, 4 * SIDE))  # a JPEG is read no larger than needed
            # "L" would cut 16 bits off at 255
            grey = picture.convert("I").convert("F") if picture.mode.startswith("I") else picture.convert("L")
            small = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise BadFileError(f"{path}: cannot be read as a picture ({e}). Copy the file again or remove it.") from e
    low = dctn(np.asarray(small, dtype=np.float64), norm="ortho")[:KEPT, :KEPT].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int(np.packbits(bits).view(">u8")[0])


def perceptual_hashes(root: Path, images: Sequence[str]) -> dict[str, int]:
    """The hashes of some pictures.

    Args:
        root: folder of the data set.
        images: paths relative to it.
    """
    bar = {"desc": "comparing pictures", "unit": "picture", "leave": False, "disable": None}
    hashes = thread_map(lambda image: perceptual_hash(root / image), images, **bar)
    return dict(zip(images, hashes, strict=True))


def find_copies(
    pool: Sequence[str], held_out: Sequence[str], sha256: Mapping[str, str], hashes: Mapping[str, int]
) -> tuple[set[str], set[str]]:
    """Pictures to train on that are there among those held out.

    Args:
        pool: pictures to train on.
        held_out: pictures of validation and test.
        sha256: of every picture's bytes.
        hashes: the perceptual hash of every picture.

    Returns:
        Those with the same bytes; and further ones whose hashes differ in 4 bits of 64 at most.
    """
    bytes_held_out = {sha256[image] for image in held_out}
    exact = {image for image in pool if sha256[image] in bytes_held_out}
    theirs = {hashes[image] for image in held_out}
    alike = {image for image in pool if any((hashes[image] ^ hashed).bit_count() <= ALIKE for hashed in theirs)}
    return exact, alike - exact
