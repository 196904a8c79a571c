"""The table of what looks wrong and is right: each function says by its asserts what comes of it.

What a function returns is the one warning that the user gets.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from bad_files import (
    SHAPE,
    STRAIGHT,
    content,
    data_set,
    organ,
    preprocessing,
    series,
    slices,
    unet,
    volume,
    volume_with,
    voxels,
)
from monai.transforms import Compose
from numpy.typing import NDArray
from PIL import Image

from ufc_monai.base.files import size_of
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import account, find_cases
from ufc_monai.data.split_file import open_split
from ufc_monai.report.slices import Overlay, save_preview
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.save import RestoreGridd
from ufc_monai.transforms.volume import LoadVolume, LoadVolumed


def rotated(angle: float) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0, 5], [s, c, 0, -3], [0, 0, 2, 7], [0, 0, 0, 1]])


def mask_lies_on(path: Path) -> None:
    """A mask of what is bright comes back on the file's own grid, and where the file is bright."""
    item = Compose([LoadVolumed("image"), NetworkGridd("image", 32, (-501, -499))])({"image": str(path)})
    bright = (item["image"] > 0.5).float()
    mask = RestoreGridd("pred")({**item, "pred": torch.cat([1 - bright, bright])})["pred"]
    file = nib.load(path)
    assert mask.shape == (1, *file.shape)
    assert np.allclose(mask.affine, file.affine, atol=1e-4)
    inside = file.get_fdata() > -500
    assert (np.asarray(mask[0]) == inside).mean() > 0.95


def labels_of(data: Any) -> list[int]:
    return sorted({int(value) for i in range(len(data)) for value in data[i]["label"].unique()})


def oblique_affine(d: Path) -> None:
    mask_lies_on(volume(d / "a.nii.gz", affine=rotated(0.3)))


def negative_spacing(d: Path) -> None:
    mask_lies_on(volume(d / "a.nii.gz", affine=np.diag([-1.0, -1.0, -2.0, 1.0])))


def axes_in_another_order(d: Path) -> None:
    mask_lies_on(volume(d / "a.nii.gz", affine=STRAIGHT[:, [2, 0, 1, 3]]))


def anisotropic_spacing(d: Path) -> None:
    mask_lies_on(volume(d / "a.nii.gz", affine=np.diag([0.4, 0.9, 8.0, 1.0])))


def one_slice(d: Path) -> None:
    image = volume(d / "a.nii.gz", voxels(0, (16, 16, 1)))
    assert [item["position"] for item in slices(d, image).items] == [0.5]
    mask_lies_on(image)


def pictures_stored_with_white_as_nothing(d: Path) -> None:
    """More is brighter in a radiograph, whichever way it is stored; Hounsfield units stay what they are."""
    plain = LoadVolume()(str(series(d / "plain")))
    for modality, values in ((b"CT", plain), (b"CR", -1 - 2 * 1024 - plain)):
        folder = series(d / modality.decode())
        for file in folder.iterdir():
            written = file.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1")
            file.write_bytes(written.replace(b"\x08\0\x60\0\2\0\0\0CT", b"\x08\0\x60\0\2\0\0\0" + modality))
        assert torch.equal(LoadVolume()(str(folder)), values)


def one_dicom_slice(d: Path) -> None:
    assert len(slices(d, series(d / "a", leave_out=range(1, 4)))) == 1


def a_fourth_axis_of_length_one(d: Path) -> None:
    assert LoadVolume()(str(volume(d / "a.nii.gz", voxels(0, (*SHAPE, 1))))).shape == (1, *SHAPE)


def float64_voxels(d: Path) -> None:
    loaded = LoadVolume()(str(volume(d / "a.nii.gz", voxels().astype(np.float64))))
    assert loaded.dtype == torch.float32
    assert np.array_equal(loaded[0], voxels())


def int64_labels(d: Path) -> None:
    label = nib.Nifti1Image(organ().astype(np.int64), STRAIGHT, dtype="int64")
    nib.save(label, d / "l.nii.gz")
    assert labels_of(slices(d, volume(d / "a.nii.gz"), d / "l.nii.gz")) == [0, 1, 2]


def labels_with_gaps(d: Path) -> None:
    """The second structure alone: it stays class 2."""
    assert labels_of(slices(d, volume(d / "a.nii.gz"), volume(d / "l.nii.gz", organ(SHAPE, 2)))) == [0, 2]


def an_empty_label(d: Path) -> None:
    assert labels_of(slices(d, volume(d / "a.nii.gz"), volume(d / "l.nii.gz", 0 * organ()))) == [0]


def a_label_stored_in_another_orientation(d: Path) -> None:
    """It lies where the image lies, so each voxel keeps its label."""
    image = volume(d / "a.nii.gz", organ().astype(np.int16) * 100)
    turned = nib.Nifti1Image(organ(), STRAIGHT).as_reoriented([[0, -1], [1, -1], [2, 1]])
    nib.save(turned, d / "l.nii.gz")
    item = preprocessing(["image", "label"])({"image": str(image), "label": str(d / "l.nii.gz")})
    values = item["image"].as_tensor() * 900 - 250  # the window undone
    assert torch.equal(values.round(), item["label"].as_tensor() * 100.0)


def a_label_that_lies_elsewhere(d: Path) -> str:
    affine = STRAIGHT.copy()
    affine[0, 3] = 40
    image, label = volume(d / "a.nii.gz"), volume(d / "l.nii.gz", organ(), affine)
    assert labels_of(slices(d, image, label)) == [0, 1, 2]
    return (
        f"{label}: the label of {image} lies up to 40.0 mm from the image by its header; voxels are matched one by one"
    )


def voxel_sizes_that_contradict_the_affine(d: Path) -> None:
    """The affine counts; MONAI alone would take a qform that the header says is not there."""
    path = volume(d / "b.nii", affine=np.diag([-1.0, -1.0, 2.0, 1.0]))
    volume_with(d / "a.nii", srow_x=[-1, 0, 0, 0], srow_y=[0, -1, 0, 0], pixdim=[1, 9, 9, 9, 1, 1, 1, 1])
    found, expected = (LoadVolume()(str(p)).affine for p in (d / "a.nii", path))
    assert torch.equal(found, expected)


def unicode_and_spaces_in_paths(d: Path) -> None:
    place = d / "für Änne 患者"
    case = find_cases(volume(place / "images" / "a b#1.nii.gz").parents[1])[0]
    found = slices(place, place / case.image)
    assert found[2]["id"] == "images/a b#1.nii.gz#2"
    assert found.slices_per_image() == {case.image: SHAPE[2]}


def a_folder_linked_into_itself(d: Path) -> None:
    volume(d / "scans" / "a.nii.gz")
    (d / "scans" / "again").symlink_to(d / "scans")
    assert [case.image for case in find_cases(d)] == ["scans/a.nii.gz"]


def a_link_to_itself(d: Path) -> str:
    volume(d / "a.nii.gz")
    loop = d / "b.nii.gz"
    loop.symlink_to(loop)
    assert [case.image for case in find_cases(d)] == ["a.nii.gz"]
    return f"{d}: left out: links that lead nowhere: b.nii.gz"


def a_data_set_behind_a_link(d: Path) -> None:
    (d / "link").symlink_to(data_set(d / "data"))
    assert len(open_split(d / "split.json", d / "link").pretraining(0)) == 3


def folders_that_are_links(d: Path) -> None:
    """Five of six patients lie elsewhere."""
    for i in range(6):
        place = d / ("cases" if i == 0 else "elsewhere") / f"case_{i}"
        volume(place / "imaging.nii.gz", voxels(i))
        volume(place / "segmentation.nii.gz", organ())
        if i:
            (d / "cases" / f"case_{i}").symlink_to(place)
    found = find_cases(d / "cases")
    assert [(case.patient, case.label) for case in found] == [
        (f"case_{i}", f"case_{i}/segmentation.nii.gz") for i in range(6)
    ]


def two_links_to_one_scan(d: Path) -> None:
    volume(d / "p0.nii.gz")
    (d / "p1.nii.gz").symlink_to("p0.nii.gz")
    assert [case.image for case in find_cases(d)] == ["p0.nii.gz"]
    assert account(d)[1] == "left out: 1: links to files that are read already: 1 (p1.nii.gz)"


def one_name_of_mmwhs_among_others(d: Path) -> None:
    for name in ("a_image", "b", "c/d"):
        volume(d / f"{name}.nii.gz", voxels(len(name)))
    assert [case.patient for case in find_cases(d)] == ["a", "b", "d"]


def lone_dicom_files(d: Path) -> None:
    for i in range(3):
        series(d / "all", f"1.2.{i}", leave_out=range(1, 4))
    volume(d / "labels" / "0_1.2.1.nii.gz", organ())
    (d / "all").rename(d / "images")
    found = find_cases(d)
    assert [case.image for case in found] == [f"images/0_1.2.{i}.dcm" for i in range(3)]
    assert [case.label for case in found] == [None, "labels/0_1.2.1.nii.gz", None]
    assert LoadVolume()(str(d / found[0].image)).shape == (1, 6, 5, 1)


def a_series_without_preamble_behind_other_files(d: Path) -> None:
    whole, bare = series(d / "whole"), d / "scans" / "bare"
    for name in ("AUTHORS", "HISTORY", "LICENSE", "README", "VERSION"):
        content(bare / name, "x" * 200)
    for file in whole.iterdir():
        written = file.read_bytes()
        data_set_at = 144 + int.from_bytes(written[140:144], "little")  # behind the preamble and the header of the file
        content(bare / f"Z{file.stem}", written[data_set_at:])
    assert [case.image for case in find_cases(d / "scans")] == ["bare"]
    assert torch.equal(LoadVolume()(str(bare)), LoadVolume()(str(whole)))


def a_pair_of_header_and_voxels(d: Path) -> None:
    nib.save(nib.Nifti1Pair(voxels(), STRAIGHT), d / "a.hdr")
    assert [case.image for case in find_cases(d)] == ["a.hdr"]
    assert np.array_equal(LoadVolume()(str(d / "a.hdr"))[0], voxels())
    assert size_of(d / "a.hdr") == sum(file.stat().st_size for file in d.iterdir())


def what_we_wrote_ourselves(d: Path) -> None:
    picture = d / "a.png"
    Image.fromarray(voxels()[..., 0].astype(np.uint8)).save(picture)
    save_preview(d / "check_preview.png", [Overlay("a", voxels()[..., 0] / 100, None, None)], [])
    content(d / "out" / "run.json", '{"stage": "ufc_unet_segmentation/inference"}')
    shutil.copy(picture, d / "out" / "a_seg.png")
    content(d / "run" / "ufc_feature_vae" / "configs" / "train.json", "{}")
    shutil.copy(picture, d / "run" / "ufc_feature_vae" / "samples.png")
    assert find_cases(d) == [Case("a.png", None, "a")]


def two_scans_of_one_patient(d: Path) -> None:
    for name in ("p01_a", "p01_b", "p02", "p03_late", "p03"):
        volume(d / f"{name}.nii.gz", voxels(len(name)))
    assert "scans whose names are alike: p01_a and p01_b, p03 and p03_late. Are they of one" in account(d)[1]


def a_list_of_files_called_alike(d: Path) -> None:
    entries = [{"image": str(volume(d / f"case_{i}" / "imaging.nii.gz").relative_to(d))} for i in range(3)]
    content(d / "dataset.json", json.dumps({"training": [*entries[:2], {**entries[2], "patient": 7}]}))
    assert [case.patient for case in find_cases(d)] == ["case_0", "case_1", "7"]


def no_label_folder(d: Path) -> None:
    assert [c.label for c in find_cases(volume(d / "images" / "a.nii.gz").parents[1])] == [None]


def a_label_without_its_image(d: Path) -> str:
    os.remove(data_set(d) / "images" / "p1.nii.gz")
    assert len(find_cases(d)) == 5
    return f"{d}: left out: labels without a scan of their name: labels/p1.nii.gz"


def notes_beside_the_scans(d: Path) -> None:
    content(data_set(d) / "images" / "README.txt", "x")
    content(d / "images" / ".hidden.nii.gz", "x")
    assert len(find_cases(d)) == 6


def paths_from_the_root_in_a_list(d: Path) -> None:
    content(data_set(d) / "dataset.json", f'{{"training": ["{d / "images" / "p0.nii.gz"}"]}}')
    assert [case.image for case in find_cases(d)] == ["images/p0.nii.gz"]


def a_data_set_removed_once_it_is_cut(d: Path) -> None:
    """The store holds all that a training reads."""
    found = slices(d, volume(d / "data" / "a.nii.gz"))
    before = found[3]["image"].clone()
    shutil.rmtree(d / "data")
    assert torch.equal(found[3]["image"], before)


def slices_that_a_unet_cannot_halve(d: Path) -> None:
    assert unet()(torch.zeros(2, 1, 100, 52)).shape == (2, 3, 100, 52)


HANDLED = [
    *(oblique_affine, negative_spacing, axes_in_another_order, anisotropic_spacing, one_slice, one_dicom_slice),
    *(a_fourth_axis_of_length_one, float64_voxels, int64_labels, labels_with_gaps, an_empty_label),
    *(a_label_stored_in_another_orientation, a_label_that_lies_elsewhere, voxel_sizes_that_contradict_the_affine),
    pictures_stored_with_white_as_nothing,
    *(unicode_and_spaces_in_paths, a_folder_linked_into_itself, a_link_to_itself, a_data_set_behind_a_link),
    *(folders_that_are_links, two_links_to_one_scan, one_name_of_mmwhs_among_others, lone_dicom_files),
    *(a_series_without_preamble_behind_other_files, a_pair_of_header_and_voxels, what_we_wrote_ourselves),
    *(two_scans_of_one_patient, a_list_of_files_called_alike),
    *(no_label_folder, a_label_without_its_image, notes_beside_the_scans, paths_from_the_root_in_a_list),
    *(a_data_set_removed_once_it_is_cut, slices_that_a_unet_cannot_halve),
]
