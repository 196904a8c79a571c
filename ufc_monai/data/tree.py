"""All files below a folder: those that may be scans or labels, and why each of the others is none."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import (
    DICOM,
    is_dicom,
    is_dicom_series,
    is_envi,
    is_own_picture,
    parts_of,
    stem_of,
    suffix_of,
)
from ufc_monai.data.names import is_word, read_name
from ufc_monai.transforms.series import read_header

SERIES = "0020|000e"
"""DICOM's tag SeriesInstanceUID."""
READ_BY_NAME = ("dataset.json", "official_split.json")
ITSELF = "."
"""The path of the folder that is looked through, where it is itself a series."""
DEAD_LINK = "links that lead nowhere"
NOT_DICOM = "files named like DICOM that are not"
TIMES = 2
"""How often a folder is read by several links; where they lead in circles, once."""


@dataclass
class Tree:
    """What lies below a folder.

    Attributes:
        root: the folder.
        volumes: scans and labels, relative to it: files, and the folders of DICOM series.
        left_out: why each other file or folder is neither, by its path.
    """

    root: Path
    volumes: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def walk(root: Path) -> Tree:
    """Look through a folder and all folders below it, links to folders among them.

    Raises:
        InputError: if the folder is itself a DICOM series.
    """
    tree = _walk(root)
    if ITSELF in tree.volumes:
        raise InputError(
            f"dataset_dir: {root} is itself one DICOM series. Name the folder above it, in which every scan has a "
            "folder of its own."
        )
    return tree


def is_series(folder: Path) -> bool:
    """Whether a folder directly holds one DICOM series, and it and the folders below hold no other scan."""
    if not is_dicom_series(folder):
        return False
    return [path for path in _walk(folder).volumes if not read_name(path).is_label] == [ITSELF]


def _walk(root: Path) -> Tree:
    tree, times = Tree(root), Counter[str]()
    waiting = [(root, frozenset[str]())]
    while waiting:
        folder, above = waiting.pop(0)
        real = os.path.realpath(folder)
        if real in above or times[real] == TIMES:
            tree.left_out[_below(folder, root)] = "links to folders that are read already"
            continue
        times[real] += 1
        files = []
        for path in _visible(folder, tree):
            if not path.is_dir():
                files.append(path)
            elif _is_own(path):
                tree.left_out[_below(path, root)] = "folders that ufc_monai wrote"
            else:
                waiting.append((path, above | {real}))
        _sort(files, folder, tree)
    tree.volumes.sort()
    return tree


def _is_own(folder: Path) -> bool:
    """Whether a folder is a bundle of ours, or holds what a stage wrote."""
    record = folder / "run.json"
    return (folder.name in BUNDLES and (folder / "configs").is_dir()) or (
        record.is_file() and b'"stage": "ufc_' in record.read_bytes()
    )


def _visible(folder: Path, tree: Tree) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as e:
        tree.left_out[_below(folder, tree.root)] = f"folders that cannot be opened ({os.strerror(e.errno or 0)})"
        return
    for path in entries:
        if path.name.startswith("."):
            tree.left_out[_below(path, tree.root)] = "hidden"
        else:
            yield path


def _sort(files: Sequence[Path], folder: Path, tree: Tree) -> None:
    """Share out the files of one folder."""
    slices = [file for file in files if is_dicom(file)]
    tree.volumes += _series(folder, slices, tree.root)
    files = sorted(set(files).difference(slices))
    headers = [file for file in files if suffix_of(file) in (".mhd", ".nhdr", ".hdr") and file.is_file()]
    detached = {part for header in headers for part in parts_of(header)[1:]}
    for file in [file for file in files if file not in detached]:
        name = _below(file, tree.root)
        if name in READ_BY_NAME:
            continue
        if reason := _reason(file):
            tree.left_out[name] = reason
        else:
            tree.volumes.append(name)


def _reason(file: Path) -> str:
    """Why a file is neither scan nor label; nothing if it may be."""
    suffix = suffix_of(file)
    if not file.is_file():
        return DEAD_LINK if file.is_symlink() else "neither files nor folders"
    if not suffix:
        ending = file.suffix.lower()
        return "numbered" if ending[1:].isdigit() else ending or "without suffix"
    if suffix in DICOM:
        return NOT_DICOM
    if suffix == ".hdr" and len(parts_of(file)) == 1:
        return ".hdr without .img"
    if suffix == ".hdr" and is_envi(file):
        return "headers of ENVI"
    if stem_of(file).endswith("_uncertainty"):
        return "images of where views disagree, from segment --uncertainty True"
    return "pictures that ufc_monai drew" if is_own_picture(file) else ""


def _series(folder: Path, slices: Sequence[Path], root: Path) -> list[str]:
    """The DICOM files of a folder as volumes: the folder, or each file where each is a series of its own."""
    if not slices:
        return []
    of_no_patient = folder == root or is_word(_below(folder, root))
    if _lone_files(slices) if len(slices) > 1 else suffix_of(slices[0]) and of_no_patient:
        return [_below(file, root) for file in slices]
    return [_below(folder, root)]


def _lone_files(slices: Sequence[Path]) -> bool:
    """Whether several DICOM files can be read one by one, and are series of their own."""
    if not all(suffix_of(file) for file in slices) or _uid(slices[0]) == _uid(slices[-1]):
        return False
    return len({_uid(file) for file in slices}) == len(slices)


def _uid(file: Path) -> str:
    try:
        return str(read_header(file).GetMetaData(SERIES))
    except Exception:  # the reader will say what is wrong with it
        return ""


def _below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
