"""Finding the volumes of a data set in its folder, and the names of its classes."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inert
from ufc_monai.base.formats import FORMATS, PICTURES, is_dicom_series, stem_of, suffix_of
from ufc_monai.data.case import MMWHS_LABELS, Case, listed_cases, plain_stem, read_dataset_json, with_roles
from ufc_monai.data.dicom_patients import with_dicom_patients
from ufc_monai.transforms.labels import LARGEST_ID, few

logger = logging.getLogger(__name__)

FOLDERS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs", "images": "labels"}
"""Folders of images and where their labels lie (Medical Segmentation Decathlon, nnU-Net, plain)."""
MASK_ENDINGS = ("_seg", "_segmentation", "_label", "_mask")
"""What masks are called that lie beside images."""
IGNORE_NAME = "ignore"
"""What nnU-Net calls the id of voxels without a judgement."""
LEFT_OUT = (
    "%s: test images (imagesTs, or dataset.json's 'test') are left out of training: %d; --include_test_images True "
    "takes them in"
)
CHANNEL = re.compile(r"(?!0000)\d{4}")
"""nnU-Net's number of a further channel, which ends an image's name."""


def require_dataset_dir(dataset_dir: str | os.PathLike[str]) -> Path:
    """Check that a data set's folder was named and exists.

    Raises:
        InputError: naming the key ``dataset_dir``.
    """
    if not isinstance(dataset_dir, str | os.PathLike):  # MONAI's command line takes 2024 for a number
        raise InputError(f"dataset_dir: got {dataset_dir!r}, which is not text. Name the folder as ./{dataset_dir}.")
    if not os.fspath(dataset_dir):
        raise InputError("dataset_dir is not set: name the folder of your volumes with --dataset_dir DIR.")
    root = Path(dataset_dir)
    if not root.is_dir():
        changed = " (MONAI reads '#' in a path as '::': rename a folder that has it.)" if "::" in str(root) else ""
        raise InputError(
            f"dataset_dir: there is no folder {root}. Name the folder of your volumes: --dataset_dir DIR.{changed}"
        )
    return root


def find_cases(dataset_dir: str | os.PathLike[str], include_test_images: bool = False) -> list[Case]:
    """Find the labelled and unlabelled volumes of a folder.

    Those of ``imagesTs`` and of dataset.json's list ``test`` may be somebody's test set: they are left out, with or
    without labels, unless they are asked for or the official split names them.

    Understood, in this order: a ``dataset.json`` that lists ``training`` (Medical Segmentation Decathlon; entries
    without ``label``, and the lists ``unlabelled`` and ``test``, are unlabelled; an entry may name its ``patient``);
    folders ``imagesTr``/``labelsTr``, ``imagesTs``/``labelsTs``, ``images``/``labels``, an image without a label of the
    same name (or that name and ``_seg``, ``_segmentation``, ``_label``, ``_mask``) being unlabelled; ``*_image`` with
    ``*_label`` files in any folder below (MMWHS); and, with none of these, every image in any folder below, unlabelled:
    all volumes but masks (``*_seg``, ``*_label``, ``*_mask``), or all pictures where there are no volumes. An image is
    a file or the folder of a DICOM series, a label is a file, and the two may differ in format. An
    ``official_split.json`` says who trains, validates and tests.

    Args:
        dataset_dir: the folder.
        include_test_images: take in the test images.

    Returns:
        The cases, sorted by image path.

    Raises:
        InputError: if the folder is missing or holds no volume but test images, a listed file is missing, or two
            entries are the same.
    """
    root = require_dataset_dir(dataset_dir)
    cases = listed_cases(root) or _from_folders(root) or _from_mmwhs_names(root) or _from_anywhere(root)
    if not cases:
        raise InputError(
            f"dataset_dir {root} holds no volumes ({FORMATS}): expected dataset.json, imagesTr/ with labelsTr/, "
            "*_image.nii.gz with *_label.nii.gz, or images in any folder below."
        )
    cases.sort(key=lambda case: case.image)
    for one, other in pairwise(cases):
        if one.image == other.image:
            raise InputError(f"{root}: {one.image} is listed twice. Keep one entry.")
    cases = with_roles(with_dicom_patients(cases, root), root)
    found = [case for case in cases if include_test_images or case.role or not case.of_test_set]
    if not found:
        raise InputError(
            f"dataset_dir: {root} holds nothing but test images (imagesTs, or dataset.json's 'test'), {len(cases)} in "
            "all. Pass --include_test_images True to train on them."
        )
    if left := len(cases) - len(found):
        _say_once(logging.INFO, LEFT_OUT, root, left)
    return found


def image_items(dataset_dir: str | os.PathLike[str], unlabelled_only: bool = False) -> list[dict[str, str]]:
    """The images of a folder, test images too, for inference: items with ``image`` and ``patient``, never ``label``.

    Args:
        dataset_dir: as in :func:`find_cases`; or one image: its file, or the folder of its DICOM series.
        unlabelled_only: leave out the images that have a label.
    """
    if dataset_dir and (os.path.isfile(dataset_dir) or is_dicom_series(dataset_dir)):
        path = Path(os.path.abspath(dataset_dir))
        if path.is_file() and not suffix_of(path):
            raise InputError(f"dataset_dir: {path} is not an image: expected one of {FORMATS}, or a folder of images.")
        return [{"image": os.fspath(path), "patient": plain_stem(path)}]
    cases = [c for c in find_cases(dataset_dir, include_test_images=True) if not (unlabelled_only and c.label)]
    if not cases:
        raise InputError(f"dataset_dir: every image of {dataset_dir} has a label. Pass --unlabelled_only False.")
    return [Case(c.image, None, c.patient).item(dataset_dir) for c in cases]


def find_labels(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int] | None:
    """The classes of a data set, ``{name: id}``; ``None`` if nothing names them.

    Neither background is among them nor nnU-Net's ``ignore``, which :func:`find_ignore_id` finds.

    Args:
        labels: the user's; ``None`` takes them from dataset.json, or MMWHS's where the files are named like its.
        dataset_dir: the data set's folder.

    Raises:
        InputError: if they are not named by such a mapping.
    """
    named = _named_ids(labels, dataset_dir)
    return None if named is None else {name: i for name, i in named.items() if name != IGNORE_NAME}


def find_ignore_id(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> int | None:
    """The id of the voxels that count neither in loss nor metric, if the data set has one: that named ``ignore``.

    Arguments and errors are those of :func:`find_labels`.
    """
    return (_named_ids(labels, dataset_dir) or {}).get(IGNORE_NAME)


def resolve_labels(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int]:
    """The classes of a data set as :func:`find_labels` finds them.

    Raises:
        InputError: as there, and if nothing names the classes, naming the key ``labels``.
    """
    found = find_labels(labels, dataset_dir)
    if found is None:
        raise InputError(
            f"labels: neither given nor found in {Path(dataset_dir, 'dataset.json')}. Name them, e.g. "
            "--labels \"{'liver': 1, 'spleen': 2}\"."
        )
    return found


def _named_ids(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int] | None:
    if labels is not None:
        return _checked_labels(labels, "labels")
    root = require_dataset_dir(dataset_dir)
    listed = read_dataset_json(root).get("labels", {})
    if not isinstance(listed, dict):
        raise InputError(f"{root / 'dataset.json'}: 'labels' should map names to ids, got {listed!r}.")
    if not listed:
        return dict(MMWHS_LABELS) if _from_mmwhs_names(root) else None
    named = {}
    for key, value in listed.items():
        # in Decathlon's order, or in nnU-Net's
        name, i = (str(value), key) if key.isdecimal() and not str(value).isdecimal() else (key, str(value))
        if not i.isdecimal():
            raise InputError(
                f"{root / 'dataset.json'}: label {key!r} has {value!r} in the place of one id; regions of several ids "
                "are not supported. Name single ids with --labels."
            )
        named[name] = int(i)
    return _checked_labels({name: i for name, i in named.items() if i}, f"{root / 'dataset.json'}, labels")


def _checked_labels(labels: Any, key: str) -> dict[str, int]:
    if not isinstance(labels, Mapping) or not all(
        isinstance(name, str) and type(i) is int and 0 < i <= LARGEST_ID for name, i in labels.items()
    ):
        raise InputError(
            f"labels must map names to ids of 1 to {LARGEST_ID}, like {{'liver': 1, 'spleen': 2}}; got {labels!r}."
        )
    inert(list(labels), key)  # they end up in metadata.json
    return dict(labels)


def _from_folders(root: Path) -> list[Case]:
    cases, alone = [], []
    for image_folder, label_folder in FOLDERS.items():
        images = _images(root / image_folder)
        _refuse_channels(images)
        labels = [f for f in _images(root / label_folder) if f.is_file()]
        # a label of the image's very name goes before one with an ending
        label_of = {_without_ending(plain_stem(f)).removesuffix("_0000"): f for f in labels} | {
            plain_stem(f): f for f in labels
        }
        found = {image: label_of.get(plain_stem(image)) for image in images}
        of_test_set = image_folder == "imagesTs"
        cases += [_case(root, image, label, plain_stem(image), of_test_set) for image, label in found.items()]
        alone += [_relative(label, root) for label in set(labels).difference(found.values())]
    if cases and alone:
        logger.warning("labels without an image of their name are left out: %s", few(alone))
    return cases


def _refuse_channels(images: Sequence[Path]) -> None:
    """Further channels of a scan would count as patients of their own, and leak from training into the test."""
    first = {stem_of(image).removesuffix("_0000") for image in images if stem_of(image).endswith("_0000")}
    for image in images:
        name, _, channel = stem_of(image).rpartition("_")
        if name in first and CHANNEL.fullmatch(channel):
            raise InputError(
                f"{image} is a second channel, beside {name}_0000: one channel is supported. Take the files of the "
                "others out of the folder."
            )


def _without_ending(stem: str) -> str:
    return next((stem.removesuffix(ending) for ending in MASK_ENDINGS if stem.endswith(ending)), stem)


def _from_mmwhs_names(root: Path) -> list[Case]:
    found = {image.parent / plain_stem(image): image for image in _images_below(root)}
    return [
        _case(root, image, found.get(name.with_name(f"{patient}_label")), patient)
        for name, image in found.items()
        if (patient := name.name.removesuffix("_image")) != name.name
    ]


def _from_anywhere(root: Path) -> list[Case]:
    found = [f for f in _images_below(root) if not _is_mask(f.relative_to(root))]
    # pictures among volumes are previews of them
    found = [f for f in found if suffix_of(f) not in PICTURES] or found
    same = Counter(map(plain_stem, found))
    # p1/CT and p2/CT are two patients
    names = [plain_stem(f) if same[plain_stem(f)] == 1 else _relative(f.with_name(plain_stem(f)), root) for f in found]
    return [Case(_relative(f, root), None, name) for f, name in zip(found, names, strict=True)]


def _is_mask(path: Path) -> bool:
    return plain_stem(path).endswith(MASK_ENDINGS) or not set(FOLDERS.values()).isdisjoint(path.parts[:-1])


def _images(folder: Path) -> list[Path]:
    """The images that lie directly in a folder, sorted: files, and the folders of DICOM series."""
    visible = [f for f in folder.iterdir() if not f.name.startswith(".")] if folder.is_dir() else []
    for link in (f for f in visible if suffix_of(f) and f.is_symlink() and not f.is_file()):
        _say_once(logging.WARNING, "%s is a link that leads nowhere: it is left out", link)
    return sorted(f for f in visible if (suffix_of(f) and f.is_file()) or is_dicom_series(f))


@functools.cache
def _say_once(level: int, text: str, *values: object) -> None:
    logger.log(level, text, *values)


def _images_below(folder: Path) -> Iterator[Path]:
    """The images in a folder and all folders below it."""
    images = _images(folder)
    yield from images
    folders = (f for f in folder.iterdir() if f.is_dir() and not (f.is_symlink() or f.name.startswith(".")))
    for below in sorted(set(folders).difference(images)):
        yield from _images_below(below)


def _case(root: Path, image: Path, label: Path | None, patient: str, of_test_set: bool = False) -> Case:
    named = None if label is None else _relative(label, root)
    return Case(_relative(image, root), named, patient, of_test_set=of_test_set)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
