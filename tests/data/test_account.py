"""What is said of the files of a data set, and which of them are no scans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_datalist import write

from ufc_monai.data.datalist import account, find_cases


def test_the_account_is_short_and_of_one_line(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", *(f"run.{i}" for i in range(300)), *(f"b.{c}{c}{c}" for c in "abcdefgh"), "c.\x1b\nd")
    (_, left_out) = account(tmp_path)
    few_of_them = "run.0, run.1, run.10, run.100, run.101, ... (300 of them)"
    kinds = "1 .\\x1b\\nd, 1 .aaa, 1 .bbb, 1 .ccc, 1 .ddd"
    assert left_out == f"left out: 309: numbered: 300 ({few_of_them}), {kinds}, and 4 more kinds"


def test_scans_in_the_folder_of_a_case_may_be_of_one_patient(tmp_path: Path) -> None:
    write(tmp_path, *(f"p{i}/{name}.nii.gz" for i in range(2) for name in ("ct", "seg", "late")))
    assert account(tmp_path)[-1].startswith("scans whose names are alike: p0 and p0/late, p1 and p1/late. Are they")


def test_scans_of_one_name_in_folders_may_be_visits_of_one_patient(tmp_path: Path) -> None:
    write(tmp_path, *(f"2019/p{i}.nii.gz" for i in range(11)), "2024/P3.nii.gz", "2024/p11.nii.gz")
    assert account(tmp_path)[-1].startswith("scans whose names are alike: 2019/p3 and 2024/P3. Are they of one")


def test_beside_a_folder_of_many_scans_those_of_a_patient_are_named_still(tmp_path: Path) -> None:
    write(tmp_path, *(f"p{i}/{name}.nii.gz" for i in range(2) for name in ("early", "late")))
    write(tmp_path, *(f"p9/s{i}.nii.gz" for i in range(11)))
    alike = "p0/early and p0/late, p1/early and p1/late"
    assert account(tmp_path)[-1].startswith(f"scans whose names are alike: {alike}. Are they")


def test_scans_of_one_name_in_a_folder_each_are_of_several_patients(tmp_path: Path) -> None:
    write(tmp_path, *(f"p{i}/abdomen.nii.gz" for i in range(3)))
    assert account(tmp_path) == ["pairs by their names: 3 */* without label"]


def test_patients_whose_names_differ_in_what_is_hardly_seen_may_be_one(tmp_path: Path) -> None:
    write(tmp_path, *(f"{name}.nii.gz" for name in "abc"))
    named = {"a": "Anna", "b": "anna ", "c": "Berta"}
    listed = [{"image": f"{name}.nii.gz", "patient": patient} for name, patient in named.items()]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": listed}))
    assert account(tmp_path)[-1].startswith("scans whose names are alike: a and b. Are they")


def test_labels_that_a_list_may_have_swapped_are_named(tmp_path: Path) -> None:
    write(tmp_path, *(f"{folder}/p{i}.nii.gz" for folder in ("images", "labels") for i in range(3)))
    listed = [{"image": f"images/p{i}.nii.gz", "label": f"labels/p{k}.nii.gz"} for i, k in enumerate((0, 2, 1))]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": listed}))
    pairs = "images/p1.nii.gz with labels/p2.nii.gz, images/p2.nii.gz with labels/p1.nii.gz"
    assert account(tmp_path)[1] == f"listed with the label that is called as another scan: {pairs}. Are they swapped?"


def test_labels_of_images_that_are_called_alike_are_not_swapped(tmp_path: Path) -> None:
    write(tmp_path, *(f"{folder}/a_t{i}.nii.gz" for folder in ("imagesTr", "labelsTr") for i in (1, 2)))
    listed = [{"image": f"imagesTr/a_t{i}.nii.gz", "label": f"labelsTr/a_t{i}.nii.gz"} for i in (1, 2)]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": listed}))
    assert not any("swapped" in line for line in account(tmp_path))


def test_a_label_that_is_linked_to_has_a_scan(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "store/c0/ct.nii.gz", "store/c0/seg.nii.gz")
    for place, name in (("imagesTr/c0_0000", "ct"), ("labelsTr/c0", "seg")):
        (tmp_path / place).parent.mkdir()
        (tmp_path / f"{place}.nii.gz").symlink_to(tmp_path / "store" / "c0" / f"{name}.nii.gz")
    assert [case.label for case in find_cases(tmp_path)] == ["labelsTr/c0.nii.gz"]
    assert not caplog.messages


def test_voxels_that_nibabel_does_not_find_are_none(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", "b.hdr", "b.img.gz")
    assert [case.image for case in find_cases(tmp_path)] == ["a.nii.gz"]


def test_a_picture_of_remote_sensing_is_no_scan(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", "b.img")
    (tmp_path / "b.hdr").write_text("ENVI\nsamples = 3\n")
    assert [case.image for case in find_cases(tmp_path)] == ["a.nii.gz"]
