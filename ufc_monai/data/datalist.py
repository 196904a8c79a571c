"""Finding the volumes of a data set in its folder: which are scans, which are labels, and of what."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import printable
from ufc_monai.base.formats import FORMATS, suffix_of
from ufc_monai.data.case import Case, listed_cases, with_roles
from ufc_monai.data.dicom_patients import of_one_series, with_dicom_patients
from ufc_monai.data.look_alikes import of_one_patient
from ufc_monai.data.names import read_name
from ufc_monai.data.pairing import ALONE, DICOM_LABEL, pair_names
from ufc_monai.data.tree import DEAD_LINK, NOT_DICOM, is_series, walk
from ufc_monai.transforms.labels import few

logger = logging.getLogger(__name__)

LEFT_OUT = (
    "%s: test images (imagesTs, or dataset.json's 'test') are left out of training: %d; --include_test_images True "
    "takes them in"
)
MOST_GROUPS = 6
"""Reasons that are named when files are left out."""
SERIOUS = (ALONE, DICOM_LABEL, DEAD_LINK, NOT_DICOM)
"""Reasons to leave a file out that are worth a warning, each time that the data set is read."""


@dataclass(frozen=True)
class Inventory:
    """What is in a data set's folder.

    Attributes:
        cases: its volumes, sorted by image path, test images too.
        left_out: why each other file or folder is no part of it, by its path.
        listed: whether dataset.json paired them, and not their names.
    """

    cases: list[Case]
    left_out: Mapping[str, str]
    listed: bool


_looked: dict[Path, Inventory] | None = None
"""What was found, while :func:`one_look` is enough."""


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

    Args:
        dataset_dir: the folder.
        include_test_images: take in the test images.

    Returns:
        The cases, sorted by image path.

    Raises:
        InputError: as of :func:`take_inventory`, if there is nothing but test images, and if there are labels but none
            of them belongs to a scan.
    """
    inventory = _warned_inventory(root := require_dataset_dir(dataset_dir))
    cases, unused = inventory.cases, [why for why in inventory.left_out.values() if why in (ALONE, DICOM_LABEL)]
    found = [case for case in cases if include_test_images or case.role or not case.of_test_set]
    if not found:
        raise InputError(
            f"dataset_dir: {root} holds nothing but test images (imagesTs, or dataset.json's 'test'), {len(cases)} in "
            "all. Pass --include_test_images True to train on them."
        )
    if unused and not any(case.label for case in found):
        raise InputError(
            f"{root}: none of {len(unused)} labels is a file that is called as one of {len(found)} scans, so none is "
            "used. Rename them (docs/how-to.md), export DICOM as NIfTI, list them in dataset.json, or take them out."
        )
    if left := len(cases) - len(found):
        _say_once(logging.INFO, LEFT_OUT, root, left)
    return found


def _warned_inventory(root: Path) -> Inventory:
    inventory = take_inventory(root)
    for reason in SERIOUS:
        if paths := [path for path, why in inventory.left_out.items() if why == reason]:
            _say_once(logging.WARNING, "%s: left out: %s: %s", root, reason, printable(few(paths)))
    return inventory


def image_items(dataset_dir: str | os.PathLike[str], unlabelled_only: bool = False) -> list[dict[str, str]]:
    """The images of a folder, test images too, for inference: items with ``image`` and ``patient``, never ``label``.

    Args:
        dataset_dir: as in :func:`find_cases`; or one image: its file, or the folder of its DICOM series.
        unlabelled_only: leave out the images that have a label.
    """
    if is_one_image(dataset_dir):
        path = Path(os.path.abspath(dataset_dir))
        if path.is_file() and not suffix_of(path):
            raise InputError(f"dataset_dir: {path} is not an image: expected one of {FORMATS}, or a folder of images.")
        return [{"image": os.fspath(path), "patient": read_name(path.name).scan}]
    found = _warned_inventory(require_dataset_dir(dataset_dir)).cases
    cases = [case for case in found if not (unlabelled_only and case.label)]
    if not cases:
        raise InputError(f"dataset_dir: every image of {dataset_dir} has a label. Pass --unlabelled_only False.")
    return [Case(c.image, None, c.patient).item(dataset_dir) for c in cases]


def is_one_image(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file, or the folder of one DICOM series, and not a data set's folder."""
    return bool(path) and (os.path.isfile(path) or is_series(Path(path)))


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Look through each folder once while the block runs, however often it is asked for: nothing in it may change."""
    global _looked
    _looked = {}
    try:
        yield
    finally:
        _looked = None


def take_inventory(root: Path) -> Inventory:
    """Account for every file below a folder: it is a scan, a label of a scan, or left out for a reason.

    Where a ``dataset.json`` lists ``training`` (Medical Segmentation Decathlon), it alone says what is what: of
    this and of ``validation``, entries without ``label``, and the lists ``unlabelled`` and ``test``, are unlabelled; an
    entry may name its ``patient``.
    Elsewhere the names of files and folders say it, by the table of :mod:`ufc_monai.data.names`: ``imagesTr/a`` and
    ``labelsTr/a``, ``a`` and ``a_seg``, ``a/imaging`` and ``a/segmentation``. What is called nothing is a scan. An
    image is a file or the folder of a DICOM series, a label is a file, and the two may differ in format. An
    ``official_split.json`` says who trains, validates and tests.

    Args:
        root: the data set's folder.

    Raises:
        InputError: if there is no scan, a listed file is missing or listed twice, or names do not tell which label
            belongs to which scan.
    """
    if _looked is None:
        return _look(root)
    if root not in _looked:
        _looked[root] = _look(root)
    return _looked[root]


def _look(root: Path) -> Inventory:
    tree = walk(root)
    left_out = dict(tree.left_out)
    cases = listed_cases(root)
    if listed := bool(cases):
        used = {path for case in cases for path in (case.image, case.label)}
        left_out |= {path: "not listed in dataset.json" for path in tree.volumes if path not in used}
    else:
        cases = pair_names(root, [read_name(path) for path in tree.volumes], left_out)
    if not cases:
        left = f" Left out: {grouped(left_out)}." if left_out else ""
        raise InputError(
            f"dataset_dir {root} holds no volumes ({FORMATS}): expected dataset.json, imagesTr/ with labelsTr/, "
            f"scans beside X_seg, or scans in any folder below.{left}"
        )
    cases.sort(key=lambda case: case.image)
    for one, other in pairwise(cases):
        if one.image == other.image:
            raise InputError(f"{root}: {one.image} is listed twice. Keep one entry.")
    scan_of = dict[str, str]()
    for case in cases:
        if case.label and (first := scan_of.setdefault(os.path.realpath(root / case.label), case.image)) != case.image:
            raise InputError(
                f"{root}: {case.label} is the label of both {first} and {case.image}. Keep it for the scan that it was "
                "drawn on."
            )
    return Inventory(with_roles(with_dicom_patients(cases, root), root), left_out, listed)


def account(dataset_dir: str | os.PathLike[str]) -> list[str]:
    """Lines that say how scans were paired with labels, what was left out and why, and what may be mixed up.

    Args:
        dataset_dir: as in :func:`image_items`.
    """
    if is_one_image(dataset_dir):
        return [f"1 scan: {dataset_dir}"]
    inventory = take_inventory(require_dataset_dir(dataset_dir))
    pairs = Counter(_how(case) for case in inventory.cases)
    by = "dataset.json" if inventory.listed else "their names"
    lines = [f"pairs by {by}: " + ", ".join(f"{n} {how}" for how, n in sorted(pairs.items()))]
    if inventory.left_out:
        lines.append(f"left out: {len(inventory.left_out)}: {grouped(inventory.left_out)}")
    if crossed := _crossed(inventory.cases):
        lines.append(f"listed with the label that is called as another scan: {few(crossed)}. Are they swapped?")
    if parts := of_one_series(inventory.cases, Path(dataset_dir)):
        names = few([" and ".join(group) for group in parts])
        lines.append(f"parts or copies of one DICOM series: {names}. Are they parts? Put its files into one folder.")
    if alike := of_one_patient(inventory.cases):
        names = few([" and ".join(group) for group in alike])
        lines.append(
            f'scans whose names are alike: {names}. Are they of one patient? Name the "patient" in dataset.json.'
        )
    return lines


def grouped(left_out: Mapping[str, str]) -> str:
    """How often each of the first few reasons holds: those that are no suffix, with a few paths, before the others."""
    paths = defaultdict[str, list[str]](list)
    for path, reason in left_out.items():
        paths[reason].append(path)
    common = sorted(paths.items(), key=lambda item: (item[0].startswith("."), -len(item[1]), item[0]))
    named = [f"{len(p)} {r}" if r.startswith(".") else f"{r}: {len(p)} ({few(p)})" for r, p in common[:MOST_GROUPS]]
    more = [f"and {len(common) - MOST_GROUPS} more kinds"] if len(common) > MOST_GROUPS else []
    return printable(", ".join(named + more))


def _crossed(cases: Sequence[Case]) -> list[str]:
    """Pairs of a list that names would not make: the label is called as another of the scans."""
    keys = [(read_name(case.image).key, read_name(case.label).key if case.label else None) for case in cases]
    images = {image for image, _ in keys}
    crossed = [label != image and label in images for image, label in keys]
    return [f"{case.image} with {case.label}" for case, wrong in zip(cases, crossed, strict=True) if wrong]


def _how(case: Case) -> str:
    image = read_name(case.image).form
    return f"{image} with {read_name(case.label).form}" if case.label else f"{image} without label"


@functools.cache
def _say_once(level: int, text: str, *values: object) -> None:
    logger.log(level, text, *values)
