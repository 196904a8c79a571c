"""A mask comes out in its image's format, exactly on its image's grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd, SaveImaged
from scans import OBLIQUE, SHAPE, STRAIGHT, make_image, sitk, write_all, write_dicom
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.labels import RemapLabels
from ufc_monai.transforms.save import RestoreGridd, SaveMask, SaveMaskd, upsample_argmax
from ufc_monai.transforms.volume import LoadVolume, LoadVolumed

EXPECTED = {
    "a.nii.gz": "a_seg.nii.gz",
    "a.nrrd": "a_seg.nrrd",
    "a.nhdr": "a_seg.nrrd",
    "a.mha": "a_seg.mha",
    "a.mhd": "a_seg.mha",
    "series": "series_seg.nii.gz",
}
BOTH = ["image", "label"]
N_CLASSES = len(MMWHS_LABELS) + 1


def segment(path: str, output_dir: Path, data_root_dir: Path) -> Any:
    """Load, orient, crop, resize, "segment" what is dense, restore and save, as the segmentation bundle does."""
    item = Compose([LoadVolumed("image"), NetworkGridd("image", 64, (0, 200))])({"image": path})
    item["pred"] = torch.cat([torch.full_like(item["image"], 0.5), item["image"]])
    return Compose([RestoreGridd("pred"), SaveMaskd("pred", output_dir, data_root_dir)])(item)["pred"]


@pytest.mark.parametrize("angle", [STRAIGHT, OBLIQUE])
def test_the_mask_has_the_format_and_the_grid_of_its_image(tmp_path: Path, angle: float) -> None:
    (tmp_path / "in").mkdir()
    for path in write_all(tmp_path / "in", angle):
        segment(path, tmp_path / "out", tmp_path / "in")
        saved = tmp_path / "out" / EXPECTED[Path(path).name]
        image, mask = LoadVolume()(path), LoadVolume()(str(saved))
        assert torch.equal(mask.as_tensor(), (image > 100).float().as_tensor()), path
        assert np.allclose(mask.affine, image.affine, atol=1e-6), path
        if saved.suffix == ".gz":
            header = nib.load(saved)
            assert header.get_data_dtype() == np.uint8
            assert np.array_equal(header.affine, image.affine.numpy().astype(np.float32))
        else:
            header, source = sitk.ReadImage(saved), sitk.ReadImage(path)
            assert header.GetPixelID() == sitk.sitkUInt8
            assert np.allclose(header.GetSpacing(), source.GetSpacing(), rtol=1e-14, atol=0)
            assert np.allclose(header.GetDirection(), source.GetDirection(), atol=1e-14)
            assert np.allclose(header.GetOrigin(), source.GetOrigin(), rtol=1e-14, atol=0)
    assert {f.name for f in (tmp_path / "out").iterdir()} == set(EXPECTED.values())


@pytest.mark.parametrize("name", ["a.png", "b.jpg"])
def test_the_mask_of_a_picture_is_a_picture(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((5, 7), dtype=np.uint8)
    pixels[1, 2:6] = 250
    sitk.WriteImage(sitk.GetImageFromArray(pixels), tmp_path / name)
    segment(str(tmp_path / name), tmp_path / "out", tmp_path)
    mask = sitk.ReadImage(tmp_path / "out" / f"{name[0]}_seg.png")
    assert mask.GetSize() == (7, 5)
    assert np.array_equal(sitk.GetArrayFromImage(mask), pixels > 100)


def test_nifti_that_is_not_compressed_stays_so(tmp_path: Path) -> None:
    sitk.WriteImage(make_image(STRAIGHT), tmp_path / "a.nii")
    segment(str(tmp_path / "a.nii"), tmp_path / "out", tmp_path)
    assert nib.load(tmp_path / "out" / "a_seg.nii").shape == SHAPE


@pytest.mark.parametrize(
    ("image", "root", "expected"),
    [
        ("data/a.nii.gz", "data", "a_seg.nii.gz"),
        ("data/ct/a_0000.nii.gz", "data", "ct/a_0000_seg.nii.gz"),
        ("else/a.nii.gz", "data", "a_seg.nii.gz"),
        ("data/ct/a.nii.gz", "", "a_seg.nii.gz"),
        ("data/a.nii.gz", "data/a.nii.gz", "a_seg.nii.gz"),
        ("data/p.1/1.2.840", "data", "p.1/1.2.840_seg.nii.gz"),
        ("data/p1", "data/p1", "p1_seg.nii.gz"),
        ("data/A.NII.GZ", "data", "A_seg.nii.gz"),
        ("data/a.b.JPG", "data", "a.b_seg.png"),
    ],
)
def test_where_a_mask_goes(tmp_path: Path, image: str, root: str, expected: str) -> None:
    saver = SaveMask(tmp_path / "out", tmp_path / root if root else "")
    assert saver.path(tmp_path / image) == tmp_path / "out" / expected


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    sitk.WriteImage(make_image(STRAIGHT), tmp_path / "a.mha")
    mask = LoadVolume()(str(tmp_path / "a.mha"))
    turned = Orientationd("pred", axcodes="RAS", labels=None)({"pred": mask})["pred"]
    for wrong in (turned, mask[..., :2]):
        with pytest.raises(ValueError, match="not on the grid of its image"):
            SaveMask(tmp_path / "out")(wrong)
    assert not (tmp_path / "out").exists()


def test_monai_label_leaves_the_saving_out(tmp_path: Path) -> None:
    assert isinstance(SaveMaskd("pred", tmp_path), SaveImaged)


def test_a_missing_mask_may_be_allowed(tmp_path: Path) -> None:
    assert SaveMaskd("pred", tmp_path, allow_missing_keys=True)({"image": 1}) == {"image": 1}


def test_a_series_that_is_the_whole_data_set(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", make_image(STRAIGHT))
    segment(str(tmp_path / "series"), tmp_path / "out", tmp_path / "series")
    assert (tmp_path / "out" / "series_seg.nii.gz").is_file()


def preprocessing(keys: list[str], region: list[float] | None = None) -> Compose:
    return Compose([LoadVolumed(keys), NetworkGridd(keys, 96, (-250, 650), region)])


def one_hot(label: torch.Tensor) -> torch.Tensor:
    """Perfect logits (C, h, w, D) of a preprocessed label."""
    classes = classes_of(label)
    return F.one_hot(classes[0].long(), N_CLASSES).permute(3, 0, 1, 2).float()


def classes_of(label: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(RemapLabels(MMWHS_LABELS, [421])(label))


@pytest.mark.parametrize("region", [None, [0.1, 0.95, 0.1, 0.95]])
@pytest.mark.parametrize(("patient", "stored"), [("ct_train_1001", "RAS"), ("ct_train_1002", "LPS")])
def test_perfect_logits_give_back_the_label(
    phantom: Path, patient: str, stored: str, region: list[float] | None
) -> None:
    item = {key: str(phantom / f"{patient}_{key}.nii.gz") for key in BOTH}
    original = nib.load(item["label"])
    assert "".join(nib.aff2axcodes(original.affine)) == stored
    both = preprocessing(BOTH, region)(item)
    # inference knows the image alone
    transform = preprocessing(["image"], region)
    mask = RestoreGridd("pred")({**transform({"image": item["image"]}), "pred": one_hot(both["label"])})["pred"]
    assert mask.dtype == torch.uint8
    assert mask.shape == (1, *original.shape)
    assert np.allclose(mask.affine, original.affine, atol=1e-4)
    truth = classes_of(torch.as_tensor(original.get_fdata())[None])
    assert dice(mask, truth) > 0.9


def dice(mask: Any, truth: torch.Tensor) -> float:
    """The mean Dice of the foreground classes."""
    plain = torch.as_tensor(mask)
    scores = []
    for c in range(1, N_CLASSES):
        one, other = plain == c, truth == c
        assert other.any()
        scores.append(float(2 * (one & other).sum() / (one.sum() + other.sum())))
    return sum(scores) / len(scores)


def test_other_keys_are_left_alone(phantom: Path) -> None:
    transform = preprocessing(["image"])
    item = transform({"image": str(phantom / "ct_train_1001_image.nii.gz")})
    operations = list(item["image"].applied_operations)
    pred = torch.zeros(2, *item["image"].shape[1:])
    restored = RestoreGridd("pred")({**item, "pred": pred})
    assert restored["image"] is item["image"]
    assert item["image"].applied_operations == operations
    assert not restored["pred"].any()


def test_a_preprocessing_that_does_not_end_with_the_grid_is_refused(phantom: Path) -> None:
    transform = Compose([LoadVolumed("image"), Orientationd("image", axcodes="RAS", labels=None)])
    item = transform({"image": str(phantom / "ct_train_1001_image.nii.gz")})
    with pytest.raises(InputError, match="must be NetworkGridd, not Orientation"):
        RestoreGridd("pred")({**item, "pred": torch.zeros(2, *item["image"].shape[1:])})


@pytest.mark.parametrize("slices", [1, 4, 100])
def test_a_few_slices_at_a_time_give_the_same_mask(slices: int) -> None:
    logits = torch.randn(3, 8, 8, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [F.interpolate(logits[None, ..., i], (12, 10), mode="bilinear").argmax(1) for i in range(7)], dim=-1
    )
    assert torch.equal(upsample_argmax(logits, (12, 10), slices), expected.to(torch.uint8))
