"""Masks of a shape that lie in a folder."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from PIL import Image

from ufc_monai.base.errors import InputError
from ufc_monai.data.masks import masks_in
from ufc_monai.transforms.chain import volume_chain


def test_masks_lie_as_images_do(tmp_path: Path) -> None:
    pixels = np.zeros((40, 40), np.uint8)
    pixels[:20, :10] = 255
    Image.fromarray(pixels).save(tmp_path / "a_mask.png")
    volume = np.zeros((40, 40, 3), np.uint8)
    volume[:20, 5:, 1] = 4
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "b_seg.nii.gz")
    masks = masks_in(tmp_path, 20)
    assert masks.shape == (2, 1, 20, 20)  # without the empty slices
    chain = volume_chain({"image_size": 20, "window": (0, 255), "region": None, "standardise": False})
    assert torch.equal(masks[0], Compose(chain)({"image": str(tmp_path / "a_mask.png")})["image"].as_tensor()[..., 0])
    assert masks[0].mean() == 0.125
    assert masks[1].mean() == pytest.approx(0.5 * 35 / 40, abs=0.03)


def test_what_is_no_folder_of_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shape_dir: there are no pictures or volumes in .*nowhere"):
        masks_in(tmp_path / "nowhere", 32)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match=r"shape_dir: all 2 masks in .* are empty or full"):
        masks_in(tmp_path, 32)
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "b.jpg")  # grey around the edges
    with pytest.raises(InputError, match=r"b\.jpg: JPEG changes the values"):
        masks_in(tmp_path, 32)
