"""Which label belongs to which scan, by their names."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import PICTURES, suffix_of
from ufc_monai.data.case import Case
from ufc_monai.data.look_alikes import label_by_its_voxels
from ufc_monai.data.names import CHANNEL, TEST_PART, Name, patients_of
from ufc_monai.transforms.labels import few

LISTED = "Or list scans, labels and patients in dataset.json."
ALONE = "labels without a scan of their name"
DICOM_LABEL = "DICOM series in the place of labels"
SECOND = "further labels of a scan"
LINKED = "links to files that are read already"


def pair_names(root: Path, names: Sequence[Name], left_out: dict[str, str]) -> list[Case]:
    """Find the label of each scan.

    Args:
        root: the data set's folder.
        names: of scans and labels.
        left_out: why other files are neither; those that turn out to be no part of the data set are added.

    Returns:
        The scans, in the order of their names.

    Raises:
        InputError: if names do not tell which label belongs to which scan.
    """
    names = _without_links(root, names, left_out)
    scans = _scans(root, [name for name in names if not name.is_label], left_out)
    _refuse_channels(root, scans, {name.stem for name in names if name.is_label})
    labels = [name for name in names if name.is_label and suffix_of(name.path)]
    left_out |= {name.path: DICOM_LABEL for name in names if name.is_label and not suffix_of(name.path)}
    label_of = _labels_of(scans, labels, left_out)
    used = {*label_of.values(), *left_out}
    files = {os.path.realpath(root / label) for label in label_of.values()}
    unused = {label: os.path.realpath(root / label.path) in files for label in labels if label.path not in used}
    left_out |= {label.path: LINKED if linked else ALONE for label, linked in unused.items()}
    alone = [label for label, linked in unused.items() if not linked]
    without = [scan for scan in scans if scan.path not in label_of]
    _refuse_parts(root, without, alone)
    if looks := label_by_its_voxels(root, scans, without):
        raise InputError(f"{root}: {looks} {LISTED}")
    patients = patients_of([scan.scan for scan in scans])
    return [
        Case(scan.path, label_of.get(scan.path), patient, of_test_set=scan.part == TEST_PART)
        for scan, patient in zip(scans, patients, strict=True)
    ]


def _scans(root: Path, names: Sequence[Name], left_out: dict[str, str]) -> list[Name]:
    """Those names that are scans, each of another name; pictures beside volumes are previews of them."""
    left_out |= {name.path: "derivatives that are not named as labels" for name in names if name.derived}
    names = [name for name in names if not name.derived]
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
    """Each file once, though links lead to it: where its folder says what it is, or else where it lies itself.

    A link to another label is no second way to it, but says that two scans have one label, which is refused later.
    """
    real = {name.path: os.path.realpath(root / name.path) for name in names}
    there = os.path.realpath(root)
    kept = dict[str, Name]()
    for name in sorted(names, key=lambda n: (not n.placed, real[n.path] != os.path.join(there, n.path))):
        if name.is_label and (root / name.path).is_symlink():
            continue
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


def _labels_of(scans: Sequence[Name], labels: Sequence[Name], left_out: dict[str, str]) -> dict[str, str]:
    """The label of each scan that has one, by path.

    First those of one key; of the others, those of which one is called as the end of the other: data/X and labels/X.
    """
    by_key, label_of = defaultdict[tuple[str, str], list[Name]](list), dict[str, str]()
    for label in labels:
        by_key[label.key].append(label)
    for scan in scans:
        if found := by_key.pop(scan.key, None):
            label_of[scan.path] = _best(scan, found, left_out)
    by_end = defaultdict[str, tuple[list[Name], list[Name]]](lambda: ([], []))
    for scan in scans:
        if scan.path not in label_of:
            by_end[scan.key[1].rpartition("/")[2]][0].append(scan)
    for label in (label for found in by_key.values() for label in found):
        by_end[label.key[1].rpartition("/")[2]][1].append(label)
    for alike, others in by_end.values():
        if len(alike) == 1 and (found := [label for label in others if _one_ends(alike[0], label)]):
            label_of[alike[0].path] = _best(alike[0], found, left_out)
    return label_of


def _one_ends(scan: Name, label: Name) -> bool:
    (part, one), (other_part, other) = scan.key, label.key
    same_part = part == other_part or not (part and other_part)
    return same_part and (f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}"))


def _best(scan: Name, labels: Sequence[Name], left_out: dict[str, str]) -> str:
    """Of several labels the one in a folder of labels that is called as the scan is; at last what looks like our mask.

    Raises:
        InputError: if two are as good.
    """

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
    named, below = {scan.key: scan.path for scan in scans}, defaultdict[str, list[str]](list)
    for label in labels:
        part, folder = label.key
        while folder := folder.rpartition("/")[0]:
            if (part, folder) in named:
                below[named[part, folder]].append(label.path)
    for scan, paths in below.items():
        raise InputError(
            f"{root}: {scan} has {len(paths)} labels below its name and none of its name: {few(paths)}. A file a "
            f"structure, as TotalSegmentator writes, is not read: combine them into one with an id each. {LISTED}"
        )
