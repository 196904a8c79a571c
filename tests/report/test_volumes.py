from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError
from ufc_monai.report.masks import draw_masks, planes_through, read_planes, save_planes, shown_in
from ufc_monai.report.quality import ScanQuality
from ufc_monai.report.slices import Overlay
from ufc_monai.report.volumes import unlabelled_volumes, volumes_of_test

SHAPE = (20, 18, 12)
RANDOM, OWN = "random initialisation", "pretrained encoder"
NAMES = ["liver", "vein"]


def blocks(*corners: int) -> NDArray[Any]:
    """A block of each of the classes 1..n, from a corner of that number on."""
    volume = np.zeros(SHAPE, np.uint8)
    for structure, corner in enumerate(corners, start=1):
        volume[corner : corner + 4, corner : corner + 4, corner % 9 : corner % 9 + 3] = structure
    return volume


def planes_of(reference: NDArray[Any] | None, prediction: NDArray[Any]) -> dict[int, list[Overlay]]:
    return planes_through(np.full(SHAPE, 0.5), reference, prediction, (1.0, 2.0, 4.0))


def an_arm(folder: Path, dice: dict[str, tuple[float, float]], head: str = "") -> Path:
    folder.mkdir()
    lines = ["volume,structure,dice,hd95_mm,surface_dice_2mm"]
    for volume, row in dice.items():
        lines += [f"{volume},{name},{d:.6f},{10 * d:.4f},{d / 2:.6f}" for name, d in zip(NAMES, row, strict=True)]
    (folder / "structures.csv").write_text(head + "\n".join(lines))
    save_planes(folder / "planes.npz", {volume: planes_of(blocks(1, 8), blocks(2, 8)) for volume in dice})
    return folder / "dice.csv"


def test_planes_come_back_as_they_were(tmp_path: Path) -> None:
    planes = planes_of(blocks(1, 8), blocks(2, 8))
    save_planes(tmp_path / "planes.npz", {"a/b | ä.nii.gz": planes, "nothing": {}})
    found = read_planes(tmp_path / "planes.npz")
    assert list(found) == ["a/b | ä.nii.gz", "nothing"]
    for structure, cuts in planes.items():
        for one, other in zip(cuts, found["a/b | ä.nii.gz"][structure], strict=True):
            np.testing.assert_array_equal(one.reference, other.reference)
            np.testing.assert_array_equal(one.prediction, other.prediction)
            np.testing.assert_allclose(one.image, other.image, atol=1 / 255)
            assert (one.title, one.aspect) == (other.title, other.aspect)
    assert read_planes(tmp_path / "none.npz") == {}
    (tmp_path / "planes.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"planes.npz is damaged"):
        read_planes(tmp_path / "planes.npz")


def test_every_structure_is_seen_and_what_was_seen_is_not_shown_again() -> None:
    apart = planes_of(blocks(1, 8, 14), blocks(1, 8, 14))
    assert shown_in(apart, 2) == [(2, 0), (2, 1), (2, 2), (1, 0), (3, 0)]
    beside = blocks(1)
    beside[6:10, 1:5, 1:4] = 2
    together = planes_of(beside, beside)
    assert shown_in(together, 1) == [(1, 0), (1, 1), (1, 2)]
    picture = planes_through(np.zeros((9, 9, 1, 3)), None, blocks(1)[:9, :9, 1:2], (1, 1, 1))
    assert shown_in(picture, 1) == [(1, 0)]


def test_arms_stand_beside_the_reference() -> None:
    planes = planes_of(blocks(1, 8), blocks(2, 8))
    figure = draw_masks({"one arm": planes, "another": planes}, 1, NAMES)
    written = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [w for w in written if w in ("reference", "one arm", "another")][:3] == ["reference", "one arm", "another"]
    assert len(figure.axes) == 3 * 4
    assert written.count("A") == 3
    assert "axial: vein" in written


def test_volumes_are_ordered_by_the_first_arm_and_figures_have_three_digits(tmp_path: Path) -> None:
    own = {"a": (0.9, 0.81234), "b": (0.2, 0.6), "c": (0.5, 0.5)}
    tables = {OWN: an_arm(tmp_path / "o", own), RANDOM: an_arm(tmp_path / "r", dict.fromkeys(own, (0.1, 0.3)))}
    found = volumes_of_test(tables)
    assert [v["title"] for v in found["shown"]] == ["worst: b", "median: c", "best: a"]
    assert found["head"][:3] == ["", f"Dice, {OWN}", f"Dice, {RANDOM}"]
    assert found["means"][0] == ["liver", "0.533", "0.100", "5.3", "1.0", "0.267", "0.050"]
    assert found["means"][-1][:3] == ["mean", "0.585", "0.200"]
    worst, *_, best = found["shown"]
    assert worst["said"] == f"Mean Dice: {OWN} 0.400, {RANDOM} 0.200"
    assert best["table"][1] == ["vein", "0.812", "0.300", "8.1", "3.0", "0.406", "0.150"]
    assert worst["through"] == "planes through liver: axial, coronal, sagittal"
    assert best["through"].startswith("planes through vein")
    assert f"reference, {OWN}, {RANDOM}" in worst["alt"]
    assert worst["picture"].startswith("data:image/jpeg;base64,/9j/")
    assert worst["columns"] == 3
    assert found["left_out"] == 0


def test_of_two_volumes_none_is_the_median_and_those_without_picture_are_counted(tmp_path: Path) -> None:
    table = an_arm(tmp_path / "o", {"a": (0.9, 0.9), "b": (0.2, 0.6)})
    save_planes(table.with_name("planes.npz"), {"b": planes_of(blocks(1), blocks(1))})
    found = volumes_of_test({OWN: table})
    assert [v["title"] for v in found["shown"]] == ["b"]
    assert found["left_out"] == 1
    assert found["head"] == ["", "Dice", "HD95, mm", "surface Dice, 2\u00a0mm"]


def test_of_several_arms_the_volumes_are_those_that_the_first_one_kept(tmp_path: Path) -> None:
    own = an_arm(tmp_path / "o", {"a": (0.2, 0.2), "b": (0.9, 0.9)})
    control = an_arm(tmp_path / "r", {"a": (0.9, 0.9), "b": (0.2, 0.2)})
    for table, kept in ((own, "a"), (control, "b")):
        save_planes(table.with_name("planes.npz"), {kept: planes_of(blocks(1), blocks(1))})
    found = volumes_of_test({OWN: own, RANDOM: control})
    assert [v["title"] for v in found["shown"]] == ["a"]
    assert found["left_out"] == 1


def test_a_test_of_an_earlier_version_has_neither_pictures_nor_surfaces(tmp_path: Path) -> None:
    (tmp_path / "structures.csv").write_text("volume,structure,dice,hd95_mm\na,liver,0.5,\n")
    found = volumes_of_test({OWN: tmp_path / "dice.csv"})
    assert found["means"] == [["liver", "0.500", "-", "-"], ["mean", "0.500", "-", "-"]]
    assert found["shown"] == []
    assert volumes_of_test({})["means"] == []
    (tmp_path / "structures.csv").write_text("volume,structure,dice\na,liver,much\n")
    with pytest.raises(InputError, match=r"structures.csv is damaged"):
        volumes_of_test({OWN: tmp_path / "dice.csv"})


def test_unlabelled_scans_are_shown_through_the_worst_that_was_found(tmp_path: Path) -> None:
    planes = planes_of(None, blocks(1))
    save_planes(tmp_path / "planes.npz", {"a": planes})
    scans = [ScanQuality("a", NAMES, {"vein": 0.1, "liver": 0.8}, "not found: vein"), ScanQuality("b", NAMES, {}, "")]
    found = unlabelled_volumes(tmp_path, scans)
    (shown,) = found["shown"]
    assert shown["said"] == "Predicted Dice 0.45; not found: vein"
    assert re.match("planes through liver", shown["through"])
    assert found["left_out"] == 1
