"""Labelled volumes small enough to check by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms import Compose
from numpy.typing import NDArray

from ufc_monai.data.slices import SliceDataset
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed


def save_volume(path: Path, voxels: NDArray[Any], affine: NDArray[Any] | None = None) -> Path:
    """Write (H, W, D) voxels; in RAS orientation with 1 mm voxels if no affine is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.int16), np.eye(4) if affine is None else affine), path)
    return path


def labelled_slices(folder: Path, labels: Mapping[str, NDArray[Any]]) -> SliceDataset:
    """A data set of volumes whose image is ten times their label."""
    items = [
        {
            "image": str(save_volume(folder / f"{name}_image.nii.gz", voxels * 10)),
            "label": str(save_volume(folder / f"{name}_label.nii.gz", voxels)),
            "patient": name,
        }
        for name, voxels in labels.items()
    ]
    keys = ["image", "label"]
    return SliceDataset(items, Compose([LoadVolumed(keys), AxialSlicesd(keys, root=folder)]), folder / "cache")
