"""The table of folders in which names do not tell scans, labels and patients apart: what the message says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_files import content, data_set, listed, organ, series, volume
from conftest import ROOT

from ufc_monai.data.datalist import find_cases
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages

FIRST, SECOND = ({"image": f"images/p{i}.nii.gz", "label": f"labels/p{i}.nii.gz"} for i in range(2))
NOBODY = (None, "", " ", float("nan"), True, ["a"], ["a"] * 999)


def volumes(*names: str) -> Callable[[Path], object]:
    """Find what is in a folder of scans that are called so."""

    def act(folder: Path) -> object:
        for name in names:
            volume(folder / name)
        return find_cases(folder)

    return act


def entries(*listing: dict[str, Any]) -> Callable[[Path], object]:
    """Find what a list says."""
    return lambda folder: find_cases(listed(folder, training=listing))


def a_label_without_its_word(folder: Path) -> object:
    volume(folder / "raw" / "a.nii.gz")
    volume(folder / "x" / "a.nii.gz", organ())
    return find_cases(folder)


def two_links(folder: Path) -> object:
    """One label under two patients' names."""
    label = data_set(folder) / "labels" / "p1.nii.gz"
    label.unlink()
    label.symlink_to("p0.nii.gz")
    return find_cases(folder)


def dicom_labels(folder: Path) -> object:
    (folder / "p0").mkdir()
    for name in ("ct", "seg"):
        series(folder / "p0" / name)
    return find_cases(folder)


def test_images_alone(folder: Path) -> object:
    for name in ("imagesTr/p0", "imagesTs/p1", "labelsTr/liver0"):
        volume(folder / f"{name}.nii.gz")
    return find_cases(folder, include_test_images=True)


def budget_without_labels(folder: Path) -> object:
    data = data_set(folder, labelled=0, unlabelled=5)
    return plan_stages(RunOptions(data, folder / "run", ROOT / "bundles", labelled=2), find_cases(data))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one name in two formats": (
        volumes("images/p0.nii.gz", "images/p0.nii"),
        "images/p0.nii and images/p0.nii.gz are both the scan p0",
    ),
    "one label of two formats": (
        lambda d: content(d / "p0.nrrd", "x") and volumes("p0.nii.gz", "p0_label.nii.gz")(d),
        "p0.nii.gz and p0.nrrd are both the scan p0",
    ),
    "two modalities of a case": (
        volumes("p0/p0_flair.nii.gz", "p0/p0_t2.nii.gz", "p0/p0_seg.nii.gz"),
        "p0/p0_flair.nii.gz and p0/p0_t2.nii.gz are both the scan p0. If these are channels, one is supported",
    ),
    "two labels of a scan": (
        volumes("p0.nii.gz", "p0_mask.nii.gz", "p0_label.nii.gz"),
        "p0.nii.gz has two labels: p0_label.nii.gz and p0_mask.nii.gz",
    ),
    "labels of two readers": (
        volumes("p0.nii.gz", "p1.nii.gz", "labels/final/p0.nii.gz", "labels/final/p1.nii.gz", "labels/old/p0.nii.gz"),
        "p0.nii.gz has two labels: labels/final/p0.nii.gz and labels/old/p0.nii.gz",
    ),
    "a file a structure": (
        volumes("p0/ct.nii.gz", "p0/segmentations/liver.nii.gz", "p0/segmentations/spleen.nii.gz"),
        "A file a structure, as TotalSegmentator writes, is not read",
    ),
    "a label that nothing calls one": (a_label_without_its_word, "x/a.nii.gz looks like a label of raw/a.nii.gz"),
    "labels of other names": (
        volumes("images/p0.nii.gz", "images/p1.nii.gz", "labels/liver0.nii.gz"),
        "none of 1 labels is a file that is called as one of 2 scans",
    ),
    "DICOM labels": (dicom_labels, "none of 1 labels is a file that is called as one of 1 scans"),
    "labels of other names, test images asked for": (
        test_images_alone,
        "none of 1 labels is a file that is called as one of 2 scans",
    ),
    "a label that two scans link to": (
        two_links,
        "labels/p1.nii.gz is the label of both images/p0.nii.gz and",
    ),
    "a label that is listed twice": (
        entries(FIRST, {**SECOND, "label": FIRST["label"]}),
        "labels/p0.nii.gz is the label of both images/p0.nii.gz and images/p1.nii.gz",
    ),
    **{
        f"patient {nobody!r:.80}": (
            entries({**FIRST, "patient": nobody}),
            f"p0.nii.gz is {nobody!r:.80}, which names nobody",
        )
        for nobody in NOBODY
    },
    "a folder that is one series": (lambda d: find_cases(series(d)), "is itself one DICOM series"),
    "half of a pair": (lambda d: find_cases(content(d / "a.hdr", "x").parent), "Left out: 1 .hdr without .img"),
    "a budget without labels": (budget_without_labels, "--labelled 2: none of the 5 scans of"),
}
