"""Volumes are found in every layout that the bundles promise to understand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS, Case
from ufc_monai.data.datalist import account, find_cases, image_items
from ufc_monai.data.label_names import find_ignore_id, resolve_labels


def write(root: Path, *names: str) -> None:
    """Empty files: finding volumes never reads them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_series(root: Path, *names: str) -> None:
    """Folders with what looks like a few DICOM files."""
    for name in names:
        write(root, f"{name}/notes.txt", f"{name}/.hidden")
        for i in (1, 2):
            (root / name / f"1.2.{i}").write_bytes(bytes(128) + b"DICM")


def write_dataset_json(root: Path, content: dict[str, Any]) -> None:
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def test_decathlon_mixes_labelled_and_unlabelled_entries(tmp_path: Path) -> None:
    images = ["imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "imagesTr/c.nii.gz", "imagesTs/d.nii.gz", "more/e.nii.gz"]
    write(tmp_path, *images, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    training = [
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
        {"image": "./imagesTr/c.nii.gz"},
        {"image": "imagesTr/b.nii.gz", "label": "labelsTr/b.nii.gz", "patient": "anna"},
    ]
    content = {"training": training, "test": ["./imagesTs/d.nii.gz"], "unlabelled": [{"image": "more/e.nii.gz"}]}
    write_dataset_json(tmp_path, content)
    found = find_cases(tmp_path, include_test_images=True)
    assert found == [
        Case("imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "a"),
        Case("imagesTr/b.nii.gz", "labelsTr/b.nii.gz", "anna"),
        Case("imagesTr/c.nii.gz", None, "c"),
        Case("imagesTs/d.nii.gz", None, "d"),
        Case("more/e.nii.gz", None, "e"),
    ]
    assert find_cases(tmp_path) == [case for case in found if case.patient != "d"]


def test_what_is_listed_for_validation_is_labelled_too(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz", "a_seg.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    a, b = ({"image": f"{name}.nii.gz", "label": f"{name}_seg.nii.gz"} for name in "ab")
    write_dataset_json(tmp_path, {"training": [a], "validation": [b]})
    assert [case.label for case in find_cases(tmp_path)] == ["a_seg.nii.gz", "b_seg.nii.gz"]


@pytest.mark.parametrize("name", ["test", "unlabelled", "unlabeled"])
def test_a_label_in_an_unlabelled_list_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.nii.gz", "b.nii.gz", "b_seg.nii.gz")
    write_dataset_json(tmp_path, {"training": ["a.nii.gz"], name: [{"image": "b.nii.gz", "label": "b_seg.nii.gz"}]})
    with pytest.raises(InputError, match=f"the list '{name}' holds labels"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ([{"image": "a.nii.gz", "label": "gone.nii.gz"}], "gone.nii.gz, which does not exist"),
        (["gone.nii.gz"], "gone.nii.gz, which does not exist"),
        ([{"label": "a.nii.gz"}], "has no 'image'"),
        (["a.nii.gz", "./a.nii.gz"], "a.nii.gz is listed twice"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, training: list[Any], reason: str) -> None:
    write(tmp_path, "a.nii.gz")
    write_dataset_json(tmp_path, {"training": training})
    with pytest.raises(InputError, match=reason):
        find_cases(tmp_path)


def test_broken_dataset_json_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.nii.gz")
    (tmp_path / "dataset.json").write_text("{'training': []}")
    with pytest.raises(InputError, match=r"dataset\.json is not valid JSON"):
        find_cases(tmp_path)


def test_folders_with_fewer_labels_than_images(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/b.nii.gz", "imagesTr/a.nii", "imagesTs/c.nii.gz", "labelsTr/a.nii.gz")
    write(tmp_path, "imagesTr/._a.nii.gz", "imagesTr/notes.txt")
    found = [Case("imagesTr/a.nii", "labelsTr/a.nii.gz", "a"), Case("imagesTr/b.nii.gz", None, "b")]
    assert find_cases(tmp_path) == found
    assert find_cases(tmp_path, include_test_images=True) == [*found, Case("imagesTs/c.nii.gz", None, "c")]


def test_nnunet_channel_number_belongs_to_no_name(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/liver_007_0000.nii.gz", "labelsTr/liver_007.nii.gz")
    write_dataset_json(tmp_path, {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}})
    assert find_cases(tmp_path) == [Case("imagesTr/liver_007_0000.nii.gz", "labelsTr/liver_007.nii.gz", "liver_007")]
    assert resolve_labels(None, tmp_path) == {"liver": 1}


@pytest.mark.parametrize("folder", ["imagesTr", "imagesTs", "images"])
def test_a_second_channel_is_refused(tmp_path: Path, folder: str) -> None:
    write(tmp_path, *(f"{folder}/{name}.nii.gz" for name in ("c0_0000", "c0_0001", "c1_0000")))
    with pytest.raises(InputError, match=r"c0_0001.nii.gz is a second channel, beside c0_0000: one channel"):
        find_cases(tmp_path)
    (tmp_path / folder / "c0_0001.nii.gz").rename(tmp_path / folder / "c_0001.nii.gz")
    assert [item["patient"] for item in image_items(tmp_path)] == ["c0", "c1", "c_0001"]


def test_labels_may_be_called_masks_and_those_without_an_image_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, *(f"images/{name}.nii.gz" for name in "abcde"))
    write(
        tmp_path, *(f"labels/{n}.nii.gz" for n in ("a_seg", "b_mask", "c_label", "d_segmentation", "e_seg", "e", "f"))
    )
    labels = {case.patient: case.label for case in find_cases(tmp_path)}
    endings = {"a": "_seg", "b": "_mask", "c": "_label", "d": "_segmentation", "e": ""}
    assert labels == {patient: f"labels/{patient}{ending}.nii.gz" for patient, ending in endings.items()}
    assert caplog.messages == [f"{tmp_path}: left out: labels without a scan of their name: labels/f.nii.gz"]
    assert "further labels of a scan: 1 (labels/e_seg.nii.gz)" in account(tmp_path)[1]


def test_mmwhs_names_in_any_folder_below(tmp_path: Path) -> None:
    write(tmp_path, "train/ct_1_image.nii.gz", "train/ct_1_label.nii.gz", "test/ct_2_image.nii.gz")
    assert find_cases(tmp_path) == [
        Case("test/ct_2_image.nii.gz", None, "ct_2"),
        Case("train/ct_1_image.nii.gz", "train/ct_1_label.nii.gz", "ct_1"),
    ]


def test_a_plain_folder_holds_unlabelled_images(tmp_path: Path) -> None:
    write(tmp_path, "y.nii", "x.nii.gz")
    assert find_cases(tmp_path) == [Case("x.nii.gz", None, "x"), Case("y.nii", None, "y")]


def test_images_below_count_and_masks_and_previews_do_not(tmp_path: Path) -> None:
    write(tmp_path, "b/y.NRRD", "x.mha", "x_seg.mha", "b/y_label.nrrd", "b/c/z_mask.nii", "b/x.png", ".old/v.nii")
    write(tmp_path, "labels/b/y.nrrd")
    write_series(tmp_path, "b/c/1.2.840")
    assert find_cases(tmp_path) == [
        Case("b/c/1.2.840", None, "1.2.840"),
        Case("b/y.NRRD", "labels/b/y.nrrd", "y"),
        Case("x.mha", "x_seg.mha", "x"),
    ]


def test_patients_with_files_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "p1/late.nii.gz", "p3/early.nii.gz")
    write_series(tmp_path, "p1/CT", "p2/CT")
    assert [case.patient for case in find_cases(tmp_path)] == ["p1", "late", "p2", "early"]


def test_pictures_alone_are_images(tmp_path: Path) -> None:
    write(tmp_path, "a.JPG", "b/c.png", "b/c_segmentation.png", "d.jpeg")
    assert [case.image for case in find_cases(tmp_path)] == ["a.JPG", "b/c.png", "d.jpeg"]


@pytest.mark.parametrize("folders", [("images", "labels"), ("imagesTr", "labelsTr")])
def test_labels_may_have_another_format_than_images(tmp_path: Path, folders: tuple[str, str]) -> None:
    images, labels = folders
    write(tmp_path, f"{images}/a.nrrd", f"{images}/b.jpg", f"{images}/c.mhd", f"{images}/c.raw")
    write_series(tmp_path, f"{images}/1.2.840", f"{images}/e", f"{labels}/e")
    write(tmp_path, f"{labels}/a.nii.gz", f"{labels}/b_segmentation.png", f"{labels}/1.2.840.nii.gz")
    assert find_cases(tmp_path) == [
        Case(f"{images}/1.2.840", f"{labels}/1.2.840.nii.gz", "1.2.840"),
        Case(f"{images}/a.nrrd", f"{labels}/a.nii.gz", "a"),
        Case(f"{images}/b.jpg", f"{labels}/b_segmentation.png", "b"),
        Case(f"{images}/c.mhd", None, "c"),
        Case(f"{images}/e", None, "e"),
    ]


def test_dataset_json_may_list_dicom_series_as_images_only(tmp_path: Path) -> None:
    write_series(tmp_path, "scans/a")
    write(tmp_path, "a.nii.gz")
    write_dataset_json(tmp_path, {"training": [{"image": "scans/a", "label": "a.nii.gz"}]})
    assert find_cases(tmp_path) == [Case("scans/a", "a.nii.gz", "a")]
    write_dataset_json(tmp_path, {"training": [{"image": "a.nii.gz", "label": "scans/a"}]})
    with pytest.raises(InputError, match=r"lists scans/a, which does not exist"):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("", "dataset_dir is not set"),
        ("gone", "there is no folder"),
        (".", r"holds no volumes \(\*\.nii\.gz, .*DICOM"),
    ],
)
def test_a_folder_without_volumes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=reason):
        find_cases(folder)


def test_items_have_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "data/imagesTr/a.nii.gz", "data/labelsTr/a.nii.gz")
    monkeypatch.chdir(tmp_path)
    (case,) = find_cases("data")
    folder = os.path.join(os.getcwd(), "data")
    image, label = os.path.join(folder, "imagesTr/a.nii.gz"), os.path.join(folder, "labelsTr/a.nii.gz")
    assert case.item("data") == {"image": image, "label": label, "patient": "a"}


def test_image_items_never_hold_labels(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/a.nii.gz", "imagesTr/b.nii.gz", "labelsTr/a.nii.gz")
    assert [sorted(item) for item in image_items(tmp_path)] == [["image", "patient"]] * 2
    assert [item["patient"] for item in image_items(tmp_path, unlabelled_only=True)] == ["b"]
    write(tmp_path, "labelsTr/b.nii.gz")
    with pytest.raises(InputError, match=r"every image of .* has a label"):
        image_items(tmp_path, unlabelled_only=True)


def test_labels_of_other_names_stop_a_training_and_no_inference(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/a.nii.gz", "imagesTs/b.nii.gz", "labelsTr/liver.nii.gz")
    assert [item["patient"] for item in image_items(tmp_path)] == ["a", "b"]
    for asked in (False, True):
        with pytest.raises(InputError, match=f"none of 1 labels is a file that is called as one of {1 + asked} scans"):
            find_cases(tmp_path, include_test_images=asked)


def test_one_file_or_one_series_is_an_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a_0000.nrrd", "notes.txt")
    write_series(tmp_path, "1.2.840")
    monkeypatch.chdir(tmp_path)
    assert image_items("a_0000.nrrd", unlabelled_only=True) == [
        {"image": str(tmp_path / "a_0000.nrrd"), "patient": "a"}
    ]
    assert image_items(tmp_path / "1.2.840") == [{"image": str(tmp_path / "1.2.840"), "patient": "1.2.840"}]
    with pytest.raises(InputError, match=r"notes\.txt is not an image: expected one of \*\.nii\.gz"):
        image_items("notes.txt")
    with pytest.raises(InputError, match="dataset_dir is not set"):
        image_items("")


def test_a_stray_dicom_file_hides_no_scan(tmp_path: Path) -> None:
    write(tmp_path, "p0.nii.gz", "p1.nii.gz")
    (tmp_path / "scout.dcm").write_bytes(bytes(128) + b"DICM")
    assert [item["patient"] for item in image_items(tmp_path)] == ["p0", "p1", "scout"]
    assert "3" in account(tmp_path)[0]
    write_series(tmp_path, "series")
    write(tmp_path, "series/p1_seg.nii.gz")
    assert len(image_items(tmp_path / "series")) == 1
    write(tmp_path, "series/p1.nii.gz")
    with pytest.raises(InputError, match="is itself one DICOM series"):
        image_items(tmp_path / "series")


@pytest.mark.parametrize(
    "listed", [{"0": "background", "1": "liver", "2": "spleen"}, {"background": 0, "liver": 1, "spleen": 2}]
)
def test_classes_of_both_styles_of_dataset_json(tmp_path: Path, listed: dict[str, Any]) -> None:
    write_dataset_json(tmp_path, {"labels": listed})
    assert resolve_labels(None, tmp_path) == {"liver": 1, "spleen": 2}


def test_the_ignore_label_of_nnunet_is_no_structure(tmp_path: Path) -> None:
    write_dataset_json(tmp_path, {"labels": {"background": 0, "liver": 1, "ignore": 2}})
    assert resolve_labels(None, tmp_path) == {"liver": 1}
    assert find_ignore_id(None, tmp_path) == 2
    assert find_ignore_id({"liver": 1}, tmp_path) is None


def test_regions_of_nnunet_are_refused(tmp_path: Path) -> None:
    write_dataset_json(tmp_path, {"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    with pytest.raises(InputError, match=r"label 'whole' has \[1, 2\] in the place of one id"):
        resolve_labels(None, tmp_path)
    assert resolve_labels({"edema": 1, "core": 2}, tmp_path) == {"edema": 1, "core": 2}


def test_classes_that_the_user_gives_win(tmp_path: Path) -> None:
    write_dataset_json(tmp_path, {"labels": {"0": "background", "1": "liver"}})
    assert resolve_labels({"kidney": 7}, tmp_path) == {"kidney": 7}


def test_classes_of_mmwhs(tmp_path: Path) -> None:
    write(tmp_path, "ct_1_image.nii.gz")
    assert resolve_labels(None, tmp_path) == MMWHS_LABELS


def test_unknown_classes_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/a.nii.gz")
    with pytest.raises(InputError, match="labels: neither given nor found"):
        resolve_labels(None, tmp_path)


@pytest.mark.parametrize("labels", [{"liver": 0}, {"liver": -1}, {"liver": "1"}, {"liver": 65536}, ["liver"]])
def test_classes_are_positive_ids(tmp_path: Path, labels: Any) -> None:
    with pytest.raises(InputError, match="labels must map names to ids of 1 to 65535"):
        resolve_labels(labels, tmp_path)


def test_a_mask_of_ours_is_a_label_of_its_nnunet_image(tmp_path: Path) -> None:
    """``segment`` names it after the image, channel and all; corrected, it may go into labelsTr."""
    write(
        tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a_0000_seg.nii.gz", "labelsTr/b.nii.gz"
    )
    assert [case.label for case in find_cases(tmp_path)] == ["labelsTr/a_0000_seg.nii.gz", "labelsTr/b.nii.gz"]
