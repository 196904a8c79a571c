"""Scans whose names make one wonder: whether one is the label of another, and whether two are of one patient."""

from __future__ import annotations

import functools
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import size_of
from ufc_monai.base.formats import NIFTI, suffix_of
from ufc_monai.base.sample import spread
from ufc_monai.data.case import Case
from ufc_monai.data.names import Name, read_name
from ufc_monai.transforms.labels import is_id
from ufc_monai.transforms.reader import stored_shape
from ufc_monai.transforms.volume import Grid, LoadVolume

ADVICE = "If it is one, end its name in _seg or put it into a folder labels/."
HEADERS = 100
"""Pairs of files whose headers are compared."""
LOOKED_AT = 3
"""Pairs of files that are read."""
MOST_IDS = 128
"""Values that a label has at most, to be told from a scan."""
VISIT = re.compile(r"(?P<patient>.*\d)([ _-]?[a-z]|[ _-]([a-z]+\d*|\d{1,3}))", re.IGNORECASE)
"""How names of one patient's scans end: p01_a, p01_late, p01-2."""
MOST_VISITS = 10
"""Scans that one patient is thought to have at most."""


def label_by_its_voxels(root: Path, scans: Sequence[Name], without: Sequence[Name]) -> str | None:
    """Look for a label that nothing calls one, among scans whose names resemble each other.

    Args:
        root: the data set's folder.
        scans: all that count as scans.
        without: those without a label.

    Returns:
        What was found, as a sentence; ``None`` if nothing was.
    """
    unknown = {name.path for name in without}
    pairs = _some([pair for pair in _called_alike(scans) if unknown.intersection(pair)], HEADERS)
    for a, b in _some([(a, b) for a, b in pairs if _voxels(root / a) == _voxels(root / b)], LOOKED_AT):
        for scan, label in ((a, b), (b, a)):
            if suffix_of(label) and _is_label_of(root / label, root / scan):
                return f"{label} looks like a label of {scan} (few small whole numbers, on the same grid). {ADVICE}"
    for path in _smallest(root, scans, {name.path for name in without if not name.placed}):
        if _look(root / path)[0]:
            return f"{path} looks like a label (few small whole numbers). {ADVICE}"
    return None


def _smallest(root: Path, scans: Sequence[Name], unknown: set[str]) -> list[str]:
    """The smallest files that may be labels, where sizes differ: few values take less space."""
    sizes = sorted((size_of(root / scan.path), scan.path) for scan in scans if suffix_of(scan.path))
    candidates = [(size, path) for size, path in sizes if path in unknown and 2 * size < sizes[-1][0]]
    return [path for _, path in candidates[:LOOKED_AT]]


def _called_alike(scans: Sequence[Name]) -> Iterator[tuple[str, str]]:
    """Pairs of scans of one name in two folders, or of a name and one that goes on after it."""
    names = sorted((scan.scan.rpartition("/")[2], scan.path) for scan in scans)
    for (a, one), (b, other) in pairwise(names):
        if a == b or re.match(r"[ _.-]", b.removeprefix(a)):
            yield one, other


def _some(pairs: Sequence[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """At most so many of them, evenly spread: where folders and names hold a rule, a few show it."""
    return [pairs[i] for i in spread(len(pairs), most)]


def _voxels(path: Path) -> object:
    """How many voxels a file has by its header; that of a file that cannot be read equals no other."""
    try:
        *shape, components = stored_shape(path)
    except Exception:  # whoever reads it for its own sake will say so
        return object()
    return math.prod(shape) * (components if suffix_of(path) in NIFTI else 1)


def _is_label_of(label: Path, scan: Path) -> bool:
    (ids, grid), (others_ids, other) = _look(label), _look(scan)
    if not ids or others_ids or grid is None or other is None:
        return False
    return grid.shape == other.shape and np.allclose(grid.affine, other.affine, atol=1e-3)


def _look(path: Path) -> tuple[bool, Grid | None]:
    """Whether a volume holds few whole numbers as labels do, and its grid; nothing of one that cannot be read."""
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (InputError, OSError):
        return False, None


@functools.lru_cache(maxsize=32)
def _read(path: Path, _changed: int) -> tuple[bool, Grid]:
    volume = LoadVolume()(path)
    values = set[float]()
    for axial in np.moveaxis(volume[0].as_tensor().numpy(), -1, 0):
        values.update(np.unique(axial).tolist())
        if len(values) > MOST_IDS:
            break
    return 1 < len(values) <= MOST_IDS and all(map(is_id, values)), Grid.of(volume.affine, volume.shape[1:])


def of_one_patient(cases: Sequence[Case]) -> list[list[str]]:
    """Groups of scans whose names or folders are so alike that their patients may be one: p01_a and p01_b."""
    groups, folders_of = (defaultdict[tuple[str, str], dict[str, str]](dict) for _ in range(2))
    scans = [read_name(case.image).scan for case in cases]
    folders = {scan.rpartition("/")[0] for scan in scans}
    for case, scan in zip(cases, scans, strict=True):
        # p0/ct is called p0, and beside p0/late it lies in that folder
        folder, name = scan if scan in folders else scan.rpartition("/")[0], case.patient.casefold().strip()
        visit = VISIT.fullmatch(name)
        groups[folder, "" if folder else visit["patient"] if visit else name][case.patient] = scan
        folders_of["", scan.rpartition("/")[2].casefold()][case.patient] = scan
    # folders of many scans are no patients', but may be visits, and so those of equal names: 2019/p1 and 2024/p1
    many = tuple(f"{folder}/" for (folder, _), group in groups.items() if folder and len(group) > MOST_VISITS)
    visits = [group for group in folders_of.values() if any(scan.startswith(many) for scan in group.values())]
    of_visits = {scan.rpartition("/")[0] for group in visits if len(group) > 1 for scan in group.values()} - {""}
    found = [*(group for (folder, _), group in groups.items() if folder not in of_visits), *visits]
    return [sorted(group.values()) for group in found if 1 < len(group) <= MOST_VISITS]
