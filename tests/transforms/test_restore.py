"""A mask comes back on the grid of the image's file, however that file is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd, Resized, ScaleIntensityRanged
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.transforms.crop import BodyCropd
from ufc_monai.transforms.labels import RemapLabels
from ufc_monai.transforms.restore import RestoreGridd, upsample_argmax
from ufc_monai.transforms.volume import LoadVolumed

BOTH = ["image", "label"]
N_CLASSES = len(MMWHS_LABELS) + 1


def preprocessing(keys: list[str], region: list[float] | None = None) -> Compose:
    last = Resized(keys, (96, 96, -1), mode=["area", "nearest"][: len(keys)])
    return Compose(
        [
            LoadVolumed(keys),
            Orientationd(keys, axcodes="RAS", labels=None),
            BodyCropd(keys, region=region),
            ScaleIntensityRanged("image", a_min=-250, a_max=650, b_min=0.0, b_max=1.0, clip=True),
            last,
        ]
    )


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
    mask = RestoreGridd("pred", transform)({**transform({"image": item["image"]}), "pred": one_hot(both["label"])})[
        "pred"
    ]
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
    restored = RestoreGridd("pred", transform)({**item, "pred": pred})
    assert restored["image"] is item["image"]
    assert item["image"].applied_operations == operations
    assert not restored["pred"].any()


def test_a_preprocessing_that_does_not_end_with_a_resize_is_refused(phantom: Path) -> None:
    transform = Compose([LoadVolumed("image"), Orientationd("image", axcodes="RAS", labels=None)])
    item = transform({"image": str(phantom / "ct_train_1001_image.nii.gz")})
    with pytest.raises(InputError, match="must end with Resized, not Orientation"):
        RestoreGridd("pred", transform)({**item, "pred": torch.zeros(2, *item["image"].shape[1:])})


@pytest.mark.parametrize("slices", [1, 4, 100])
def test_a_few_slices_at_a_time_give_the_same_mask(slices: int) -> None:
    logits = torch.randn(3, 8, 8, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.stack(
        [F.interpolate(logits[None, ..., i], (12, 10), mode="bilinear").argmax(1) for i in range(7)], dim=-1
    )
    assert torch.equal(upsample_argmax(logits, (12, 10), slices), expected.to(torch.uint8))
