"""Finding the volumes of a data set in its folder: which are scans, which are labels, and of what."""

from __future__ import annotations

import functools
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import FORMATS, PICTURES, suffix_of
from ufc_monai.data.case import Case, listed_cases, with_roles
from ufc_monai.data.dicom_patients import with_dicom_patients
from ufc_monai.data.look_alikes import label_by_its_voxels, of_one_patient
from ufc_monai.data.names import CHANNEL, TEST_PART, Name, patients_of, read_name
from ufc_monai.data.tree import DEAD_LINK, NOT_DICOM, is_series, walk
from ufc_monai.transforms.labels import few

logger = logging.getLogger(__name__)

LEFT_OUT = (
    "%s: test images (imagesTs, or dataset.json's 'test') are left out of training: %d; --include_test_images True "
    "takes them in"
)
LISTED = "Or list scans, labels and patients in dataset.json."
ALONE = "labels without a scan of their name"
SECOND = "further labels of a scan"
LINKED = "links to files that are read already"
SERIOUS = (ALONE, DEAD_LINK, NOT_DICOM)
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
        InputError: as of :func:`take_inventory`, and if there is nothing but test images.
    """
    root = require_dataset_dir(dataset_dir)
    inventory = take_inventory(root)
    for reason in SERIOUS:
        if paths := [path for path, why in inventory.left_out.items() if why == reason]:
            _say_once(logging.WARNING, "%s: left out: %s: %s", root, reason, few(paths))
    cases = inventory.cases
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
    if is_one_image(dataset_dir):
        path = Path(os.path.abspath(dataset_dir))
        if path.is_file() and not suffix_of(path):
            raise InputError(f"dataset_dir: {path} is not an image: expected one of {FORMATS}, or a folder of images.")
        return [{"image": os.fspath(path), "patient": read_name(path.name).scan}]
    cases = [c for c in find_cases(dataset_dir, include_test_images=True) if not (unlabelled_only and c.label)]
    if not cases:
        raise InputError(f"dataset_dir: every image of {dataset_dir} has a label. Pass --unlabelled_only False.")
    return [Case(c.image, None, c.patient).item(dataset_dir) for c in cases]


def is_one_image(path: str | os.PathLike[str]) -> bool:
    """Whether it is a file, or the folder of one DICOM series, and not a data set's folder."""
    return bool(path) and (os.path.isfile(path) or is_series(Path(path)))


def take_inventory(root: Path) -> Inventory:
    """Account for every file below a folder: it is a scan, a label of a scan, or left out for a reason.

    Where a ``dataset.json`` lists ``training`` (Medical Segmentation Decathlon), it alone says what is what: entries
    without ``label``, and the lists ``unlabelled`` and ``test``, are unlabelled; an entry may name its ``patient``.
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
    tree = walk(root)
    left_out = dict(tree.left_out)
    cases = listed_cases(root)
    if listed := bool(cases):
        used = {path for case in cases for path in (case.image, case.label)}
        left_out |= {path: "not listed in dataset.json" for path in tree.volumes if path not in used}
    else:
        cases = _paired(root, [read_name(path) for path in tree.volumes], left_out)
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
    """Lines that say how scans were paired with labels, what was left out and why, and which patients may be one.

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
    if alike := of_one_patient(inventory.cases):
        names = few([" and ".join(group) for group in alike])
        lines.append(f'patients whose names are alike: {names}. If they are one, name the "patient" in dataset.json.')
    return lines


def grouped(left_out: Mapping[str, str]) -> str:
    """Reasons with how often each holds, the most frequent first; of those that are no suffix, a few paths."""
    paths = defaultdict[str, list[str]](list)
    for path, reason in left_out.items():
        paths[reason].append(path)
    common = sorted(paths.items(), key=lambda item: (-len(item[1]), item[0]))
    return ", ".join(f"{len(p)} {r}" if r.startswith(".") else f"{r}: {len(p)} ({few(p)})" for r, p in common)


def _how(case: Case) -> str:
    image = read_name(case.image).form
    return f"{image} with {read_name(case.label).form}" if case.label else f"{image} without label"


def _paired(root: Path, names: Sequence[Name], left_out: dict[str, str]) -> list[Case]:
    """The scans with their labels; what is neither is added to ``left_out``."""
    scans = _scans(root, [name for name in names if not name.is_label], left_out)
    _refuse_channels(root, scans, {name.stem for name in names if name.is_label})
    labels = defaultdict[tuple[str, str], list[Name]](list)
    for name in names:
        if name.is_label and suffix_of(name.path):
            labels[name.key].append(name)
        elif name.is_label:
            left_out[name.path] = "DICOM series in the place of labels"
    label_of = {scan.path: _best(scan, labels.pop(scan.key, []), left_out) for scan in scans}
    alone = {name.path: name for found in labels.values() for name in found}
    left_out |= dict.fromkeys(alone, ALONE)
    without = [scan for scan in scans if not label_of[scan.path]]
    _refuse_parts(root, without, list(alone.values()))
    if looks := label_by_its_voxels(root, scans, without):
        raise InputError(f"{root}: {looks} {LISTED}")
    patients = patients_of([scan.scan for scan in scans])
    return [
        Case(scan.path, label_of[scan.path], patient, of_test_set=scan.part == TEST_PART)
        for scan, patient in zip(scans, patients, strict=True)
    ]


def _scans(root: Path, names: Sequence[Name], left_out: dict[str, str]) -> list[Name]:
    """Those names that are scans, each of another name; pictures beside volumes are previews of them."""
    left_out |= {name.path: "derivatives that are not named as labels" for name in names if name.derived}
    names = _without_links(root, [name for name in names if not name.derived], left_out)
    volumes = {name.key for name in names if suffix_of(name.path) not in PICTURES}
    previews = {
        name.path: "pictures among volumes"
        for name in names
        if suffix_of(name.path) in PICTURES and volumes and (name.key in volumes or not name.placed)
    }
    left_out |= previews
    scans = [name for name in names if name.path not in previews]
    first = dict[object, Name]()
    for scan in scans:
        if (other := first.setdefault(scan.key, scan)) is not scan:
            raise InputError(
                f"{root}: {other.path} and {scan.path} are both the scan {scan.scan}. If these are channels, one is "
                f"supported: take the others out of the folder. {LISTED}"
            )
    return scans


def _without_links(root: Path, names: Sequence[Name], left_out: dict[str, str]) -> list[Name]:
    """Each file once, though links lead to it: where its folder says what it is, or else where it lies itself."""
    real = {name.path: os.path.realpath(root / name.path) for name in names}
    there = os.path.realpath(root)
    kept = dict[str, Name]()
    for name in sorted(names, key=lambda n: (not n.placed, real[n.path] != os.path.join(there, n.path))):
        if kept.setdefault(real[name.path], name) is not name:
            left_out[name.path] = LINKED
    return [name for name in names if name.path not in left_out]


def _refuse_channels(root: Path, scans: Sequence[Name], labels: set[str]) -> None:
    """Further channels of a scan would count as patients of their own, and leak from training into the test.

    Where a label is called by all of the name, the last of it is no channel but the scan's number.
    """
    first = {(os.path.dirname(s.path), s.stem.removesuffix("_0000")) for s in scans if s.stem.endswith("_0000")}
    for scan in scans:
        match = CHANNEL.fullmatch(scan.stem)
        if match and scan.stem not in labels and (os.path.dirname(scan.path), match["scan"]) in first:
            raise InputError(
                f"{root / scan.path} is a second channel, beside {match['scan']}_0000: one channel is supported. Take "
                "the files of the others out of the folder."
            )


def _best(scan: Name, labels: Sequence[Name], left_out: dict[str, str]) -> str | None:
    """Of several labels the one in a folder of labels that is called as the scan is; at last what looks like our mask.

    Raises:
        InputError: if two are as good.
    """
    if not labels:
        return None

    def rank(label: Name) -> int:
        return 2 if label.stem == f"{scan.stem}_seg" else int(label.stem not in (scan.stem, scan.scan))

    best, *others = sorted(labels, key=rank)
    if others and rank(others[0]) == rank(best):
        raise InputError(
            f"{scan.path} has two labels: {best.path} and {others[0].path}. One file with an id a structure is "
            f"expected: combine them, or take one out of the folder. {LISTED}"
        )
    left_out |= {other.path: SECOND for other in others}
    return best.path


def _refuse_parts(root: Path, scans: Sequence[Name], labels: Sequence[Name]) -> None:
    """Refuse labels that lie below the name of a scan without one, as where each structure is a file of its own."""
    for scan in scans:
        below = [x.path for x in labels if x.key[0] == scan.key[0] and x.key[1].startswith(f"{scan.key[1]}/")]
        if below:
            raise InputError(
                f"{root}: {scan.path} has {len(below)} labels below its name and none of its name: {few(below)}. "
                f"A file a structure, as TotalSegmentator writes, is not read: combine them into one with an id each. "
                f"{LISTED}"
            )


@functools.cache
def _say_once(level: int, text: str, *values: object) -> None:
    logger.log(level, text, *values)
