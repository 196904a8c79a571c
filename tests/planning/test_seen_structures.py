"""What ``check`` says of structures that the window cuts off, or the network's grid hardly shows."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ufc_monai.data.datalist import find_cases
from ufc_monai.planning.structures import measure_structures, structure_remarks, structure_table

CONFIG = {"window": [-250, 650], "image_size": 32, "region": None, "channels": 1}
LABELS = {"airway": 1, "organ": 2, "absent": 3}


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A body of 64 x 64 voxels of 2 mm: an airway of 5 x 5 voxels, of air but for a rim, and an organ of 21 x 21."""
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    for n in range(2):
        image, label = np.full((64, 64, 6), 40, np.int16), np.zeros((64, 64, 6), np.uint8)
        label[10:15, 10:15], label[30:51, 30:51] = 1, 2
        image[10:15, 11:15] = -990 + n  # 80 % of the airway
        for part, array in (("imagesTr", image), ("labelsTr", label)):
            nib.save(nib.Nifti1Image(array, np.diag([2, 2, 5, 1])), tmp_path / part / f"case{n}.nii.gz")
    return tmp_path


def test_share_outside_millimetres_and_pixels(scans: Path) -> None:
    found = measure_structures(scans, find_cases(scans), LABELS, CONFIG)
    assert [len(extents) for extents in found.values()] == [2, 2, 0]
    airway, organ = found["airway"][0], found["organ"][0]
    assert (airway.outside, airway.millimetres, airway.pixels) == pytest.approx((0.8, 10, 2.5))
    assert (organ.outside, organ.millimetres, organ.pixels) == pytest.approx((0, 42, 10.5))
    _, head, *rows = structure_table(found, CONFIG)
    assert head.split() == ["structure", "outside", "of", "the", "window", "mm", "across", "pixels", "across"]
    assert [row.split() for row in rows] == [["airway", "80", "%", "10.0", "2.5"], ["organ", "0", "%", "42.0", "10.5"]]


def test_the_window_and_the_grid_that_would_hold_a_structure_are_named(scans: Path) -> None:
    found = measure_structures(scans, find_cases(scans), LABELS, CONFIG)
    cut, window, small, size = structure_remarks(found, CONFIG)
    assert cut == "- outside of the window [-250,650], where values are cut off: airway 80 %"
    assert window == '    A window that holds them: --window "[-990,650]"'
    assert small == "- pixels across, of 32 x 32, hardly enough to be seen: airway 2.5"
    assert size.endswith("--set ufc_cluster_contrastive.image_size=48 --set ufc_unet_segmentation.image_size=48")
    better = {**CONFIG, "window": [-990, 650], "image_size": 48}
    assert not structure_remarks(measure_structures(scans, find_cases(scans), LABELS, better), better)


def test_no_size_is_named_that_shows_no_more(scans: Path) -> None:
    fine = {**CONFIG, "window": [-1000, 650], "image_size": 64}
    labels = {"organ": 2, "airway": 1}
    for path in (scans / "labelsTr").iterdir():
        label = np.zeros((64, 64, 6), np.uint8)
        label[20:22, 20:22] = 1
        nib.save(nib.Nifti1Image(label, np.diag([2, 2, 5, 1])), path)
    small, advice = structure_remarks(measure_structures(scans, find_cases(scans), labels, fine), fine)
    assert small.endswith("airway 1.0")
    assert "The scans show no more" in advice
