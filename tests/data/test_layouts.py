"""Random trees in the layouts of data sets: paired right or refused, none half, and every file accounted for."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_volumes import save_volume

from ufc_monai.base.errors import InputError
from ufc_monai.base.formats import is_dicom
from ufc_monai.data.datalist import Inventory, find_cases, take_inventory

LAYOUTS = {
    "Decathlon": ("imagesTr/liver_{i}", "labelsTr/liver_{i}"),
    "nnU-Net": ("imagesTr/liver_{i:03}_0000", "labelsTr/liver_{i:03}"),
    "numbered from 0": ("imagesTr/case_{i:04}", "labelsTr/case_{i:04}"),
    "plain": ("images/p{i}", "labels/p{i}"),
    "plain, by sites": ("images/site_{i}/p{i}", "labels/site_{i}/p{i}"),
    "AMOS": ("imagesVa/amos_{i:04}", "labelsVa/amos_{i:04}"),
    "KiTS": ("case_{i:05}/imaging", "case_{i:05}/segmentation"),
    "two folders": ("ct/X{i}", "seg/X{i}"),
    "folders in cases": ("case{i}/ct", "case{i}/seg"),
    "folders of one file": ("case{i}/ct/case{i}", "case{i}/seg/case{i}"),
    "beside, in images": ("images/X{i}", "images/X{i}_seg"),
    "beside": ("X{i}", "X{i}_seg"),
    "beside in folders": ("X{i}/scan", "X{i}/scan_seg"),
    "MMWHS": ("ct_train/ct_train_1{i:03}_image", "ct_train/ct_train_1{i:03}_label"),
    "BraTS 2020": ("BraTS20_{i:03}/BraTS20_{i:03}_flair", "BraTS20_{i:03}/BraTS20_{i:03}_seg"),
    "BraTS 2023": ("BraTS-GLI-{i:05}-000/BraTS-GLI-{i:05}-000-t1c", "BraTS-GLI-{i:05}-000/BraTS-GLI-{i:05}-000-seg"),
    "LiTS": ("volume-{i}", "segmentation-{i}"),
    "BTCV": ("img/img{i:04}", "label/label{i:04}"),
    "BIDS": (
        "sub-{i:02}/ses-1/anat/sub-{i:02}_ses-1_T1w",
        "derivatives/manual/sub-{i:02}/ses-1/anat/sub-{i:02}_ses-1_desc-x_dseg",
    ),
    "BIDS, raw": ("rawdata/sub-{i:02}/ct/sub-{i:02}_ct", "derivatives/a/sub-{i:02}/ct/sub-{i:02}_label-x_mask"),
    "TotalSegmentator, whole": ("s{i:04}/ct", "s{i:04}/segmentations"),
}
"""Where the scan and the label of a patient lie, without suffix."""
NOISE = ("notes.txt", "README", "LICENSE", ".DS_Store", "._X1.nii.gz", "table.csv", "preview.png", "participants.json")
LINKED = ("none", "folders", "files")


class Site(NamedTuple):
    """A part of a tree: the layout, its patients, and which of them have labels."""

    layout: str
    labelled: list[bool]
    suffixes: list[str]


sites = st.integers(1, 5).flatmap(
    lambda n: st.builds(
        Site,
        st.sampled_from(sorted(LAYOUTS)),
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.lists(st.sampled_from([".nii.gz", ".nrrd", ".hdr", ".dcm", "series"]), min_size=n, max_size=n),
    )
)


@contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp())
    try:
        (place / "data").mkdir()
        yield place / "data"
    finally:
        shutil.rmtree(place)


def voxels(seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 1000, (8, 8, 4), dtype=np.int16)


def put(path: Path, content: bytes = b"") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def build(root: Path, site: Site) -> dict[str, str | None]:
    """Write a site; returns the label of each scan."""
    image, label = LAYOUTS[site.layout]
    pairs = dict[str, str | None]()
    for i, (labelled, suffix) in enumerate(zip(site.labelled, site.suffixes, strict=True)):
        scan, mask = image.format(i=i), label.format(i=i) + ".nii.gz"
        if suffix == "series":
            put(root / scan / "README")
            put(root / scan / "IM0001", b"\x08\0\x05\0\x0a\0\0\0" + bytes(200))  # without preamble
            put(root / scan / "1.2.3", bytes(128) + b"DICM")
        else:
            scan += ".nii" if suffix == ".dcm" else suffix
            put(root / scan)
            if suffix == ".hdr":
                put((root / scan).with_suffix(".img"))
        if labelled:
            put(root / mask)
        pairs[scan] = mask if labelled else None
    return pairs


def may_be_channels(site: Site) -> bool:
    """Whether a scan without a label ends in a number, beside one that ends in 0000."""
    return site.layout in ("AMOS", "numbered from 0") and not all(site.labelled[1:])


def link(root: Path, what: str) -> None:
    """Move what lies in a folder out of it and link to it; link to folders a second time, and into themselves."""
    for n, path in enumerate(sorted(root.iterdir())):
        if what == "folders" if path.is_dir() else what == "files":
            path.rename(target := root.parent / f"{n}{''.join(path.suffixes)}")
            path.symlink_to(target)
    if what != "none":
        for n, path in enumerate(sorted(path for path in root.iterdir() if path.is_dir())):
            (root / f"z_{n}").symlink_to(path)
        (root / "again").symlink_to(root)


def unaccounted(root: Path, inventory: Inventory) -> list[str]:
    """Files that are no scan, no label, no part of one and not left out."""
    known = {root / name for case in inventory.cases for name in (case.image, case.label) if name}
    known |= {root / name for name in inventory.left_out}
    files = (Path(place, name) for place, _, names in os.walk(root) for name in names)
    return [
        str(file)
        for file in files
        if not known.intersection((file, file.with_suffix(".hdr"), *file.parents))
        or (file.parent in known and not is_dicom(file) and file not in known)
    ]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(sites, min_size=1, max_size=2),
    st.lists(st.sampled_from(NOISE), unique=True),
    st.sampled_from(LINKED),
)
def test_random_trees(parts: list[Site], noise: list[str], links: str) -> None:
    with folder() as root:
        expected = dict[str, str | None]()
        for n, site in enumerate(parts):
            prefix = f"site_{n}/" if len(parts) > 1 else ""
            found = build(root / prefix, site)
            expected |= {prefix + image: label and prefix + label for image, label in found.items()}
        for name in noise:
            put(root / name)
        link(root, links)
        try:
            inventory = take_inventory(root)
        except InputError as error:
            if any(map(may_be_channels, parts)) and "is a second channel" in str(error):
                return
            raise
        assert {case.image: case.label for case in inventory.cases} == expected
        assert len({case.patient for case in inventory.cases}) == len(expected)
        assert unaccounted(root, inventory) == []
        assert set(noise) <= set(inventory.left_out)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_alone(layout: str, tmp_path: Path) -> None:
    expected = build(tmp_path, Site(layout, [True, True, False], [".nii.gz"] * 3))
    if layout in ("AMOS", "numbered from 0"):
        (tmp_path / expected.popitem()[0]).unlink()  # it might be a channel
    assert {case.image: case.label for case in find_cases(tmp_path)} == expected


@given(st.sampled_from(sorted(LAYOUTS)), st.sampled_from([".nii.gz", ".nrrd"]))
@settings(max_examples=40, deadline=None)
def test_a_scan_twice_under_one_name_is_refused(layout: str, suffix: str) -> None:
    with folder() as root:
        pairs = build(root, Site(layout, [True, True], [suffix] * 2))
        put(root / next(iter(pairs)).replace(suffix, ".mha"))
        with pytest.raises(InputError, match=r"are both the scan"):
            take_inventory(root)


@given(st.integers(2, 4), st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_file_a_structure_is_refused_by_name(structures: int, below: bool) -> None:
    with folder() as root:
        for i in range(3):
            put(root / f"s{i}" / "ct.nii.gz")
            for n in range(structures if i else 0):
                name = f"s{i}/segmentations/organ_{n}" if below else f"segmentations/s{i}/organ_{n}"
                put(root / f"{name}.nii.gz")
        with pytest.raises(InputError, match=r"s1/ct\.nii\.gz has . labels below its name.*TotalSegmentator"):
            take_inventory(root)


@pytest.mark.parametrize(
    "names",
    [
        ("raw/X{i}", "expert/X{i}"),
        ("X{i}", "X{i}_drawn"),
        ("case{i}/a", "case{i}/b"),
        ("scans/X{i}_ct", "GTVs/X{i}_gtv"),
        ("imagesTr/X{i}", "expert/X{i}"),
    ],
)
def test_a_label_that_nothing_calls_one_is_found_by_its_voxels(names: tuple[str, str], tmp_path: Path) -> None:
    for i in range(3):
        scan, label = (tmp_path / f"{name.format(i=i)}.nii.gz" for name in names)
        save_volume(scan, voxels(i))
        save_volume(label, voxels(i) > 100)
    with pytest.raises(InputError, match=r"looks like a label.*end its name in _seg or put it into"):
        take_inventory(tmp_path)


@pytest.mark.parametrize("folder", ["images", "."])
def test_a_scan_of_few_values_is_one_where_its_folder_says_so(folder: str, tmp_path: Path) -> None:
    for i in range(3):
        save_volume(tmp_path / folder / f"p{i}.nii.gz", voxels(i) if i else voxels(i) > 100)
    if folder == "images":
        assert len(take_inventory(tmp_path).cases) == 3
    else:
        with pytest.raises(InputError, match=r"p0\.nii\.gz looks like a label"):
            take_inventory(tmp_path)


def test_scans_of_one_grid_are_scans(tmp_path: Path) -> None:
    for i in range(2):
        save_volume(tmp_path / f"p{i}" / "late.nii.gz", voxels(i))
        save_volume(tmp_path / f"p{i}" / "early.nii.gz", voxels(9 + i))
    assert len(take_inventory(tmp_path).cases) == 4


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".png"])
def test_where_views_disagree_is_no_scan(suffix: str, tmp_path: Path) -> None:
    """``segment --uncertainty True`` may write beside the scans."""
    names = [f"{name}{suffix}" for name in ("a", "a_seg", "a_uncertainty")]
    for name in names:
        put(tmp_path / name)
    inventory = take_inventory(tmp_path)
    assert {case.image: case.label for case in inventory.cases} == {names[0]: names[1]}
    assert inventory.left_out == {names[2]: "images of where views disagree, from segment --uncertainty True"}
