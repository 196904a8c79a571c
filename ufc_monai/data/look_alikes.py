"""Scans whose names make one wonder: whether one is the label of another, and whether two are of one patient."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ufc_monai.data.case import Case
from ufc_monai.data.names import Name, read_name
from ufc_monai.transforms.labels import is_id
from ufc_monai.transforms.reader import stored_shape
from ufc_monai.transforms.volume import Grid, LoadVolume

LOOKED_AT = 8
"""Pairs of files, spread evenly, that are looked into: where folders and names hold a rule, a few show it."""
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
    pairs = sorted(set(_alike(scans, {name.path for name in without})))
    chosen = sorted({round(i * (len(pairs) - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)}) if pairs else []
    for a, b in (pairs[i] for i in chosen):
        for scan, label in ((a, b), (b, a)):
            if _is_label_of(root / label, root / scan):
                return (
                    f"{label} looks like a label of {scan} (few small whole numbers, on the same grid), but is not "
                    "called one: end its name in _seg, or put it into a folder labels/."
                )
    return None


def _alike(scans: Sequence[Name], without: set[str]) -> Iterator[tuple[str, str]]:
    """Pairs of scans, perhaps a scan and its label: of the same name, of one folder, of names that begin alike."""
    same, near = defaultdict[str, list[Name]](list), defaultdict[str, list[Name]](list)
    for scan in scans:
        folder, _, last = scan.scan.rpartition("/")
        same[last].append(scan)
        near[folder].append(scan)
    groups = [*same.values(), *(group for folder, group in near.items() if folder)]
    for group in groups:
        yield from ((a.path, b.path) for a, b in pairwise(group) if {a.path, b.path} & without)
    for group in near.values():
        names = sorted(group, key=lambda name: name.stem)
        for a, b in pairwise(names):
            if re.match(r"[ _.-]", b.stem.removeprefix(a.stem)) and b.stem.startswith(a.stem) and b.path in without:
                yield a.path, b.path


def _is_label_of(label: Path, scan: Path) -> bool:
    try:
        if stored_shape(label)[:2] != stored_shape(scan)[:2]:
            return False
        (ids, grid), (others_ids, other) = (_look(path, path.stat().st_mtime_ns) for path in (label, scan))
    except Exception:  # whoever reads it for its own sake will say so
        return False
    same = grid.shape == other.shape and np.allclose(grid.affine, other.affine, atol=1e-3)
    return same and ids and not others_ids


@functools.lru_cache(maxsize=4 * LOOKED_AT)
def _look(path: Path, _changed: int) -> tuple[bool, Grid]:
    """Whether a volume holds few whole numbers as labels do, and its grid."""
    volume = LoadVolume()(path)
    values = set[float]()
    for axial in np.moveaxis(volume[0].as_tensor().numpy(), -1, 0):
        values.update(np.unique(axial).tolist())
        if len(values) > MOST_IDS:
            break
    return len(values) <= MOST_IDS and all(map(is_id, values)), Grid.of(volume.affine, volume.shape[1:])


def of_one_patient(cases: Sequence[Case]) -> list[list[str]]:
    """Groups of patients whose names or folders are so alike that they may be one: p01_a and p01_b."""
    groups = defaultdict[tuple[str, str], set[str]](set)
    for case in cases:
        folder = read_name(case.image).scan.rpartition("/")[0]
        visit = VISIT.fullmatch(case.patient)
        groups[folder, "" if folder else visit["patient"] if visit else case.patient].add(case.patient)
    return [sorted(group) for group in groups.values() if 1 < len(group) <= MOST_VISITS]
