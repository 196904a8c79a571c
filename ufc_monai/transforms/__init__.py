"""What MONAI's transforms lack for this project; array transforms and their dictionary twins (``d``)."""

from __future__ import annotations

from ufc_monai.transforms.affine import affine_between, inverse_affine, sampling_grid
from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd
from ufc_monai.transforms.chain import slice_chain, volume_chain
from ufc_monai.transforms.crop import BodyCrop, BodyCropd, label_region
from ufc_monai.transforms.labels import (
    IGNORE,
    ClassesToIds,
    ClassesToIdsd,
    ClearIgnoredd,
    RemapLabels,
    RemapLabelsd,
)
from ufc_monai.transforms.reader import SimpleITKReader
from ufc_monai.transforms.restore import RestoreGridd, upsample_argmax
from ufc_monai.transforms.save import SaveMask, SaveMaskd, has_mark
from ufc_monai.transforms.standardise import Standardise, Standardised
from ufc_monai.transforms.views import TwoViews, TwoViewsd
from ufc_monai.transforms.volume import AxialSlices, AxialSlicesd, LoadVolume, LoadVolumed, slice_id

__all__ = [
    "IGNORE",
    "AxialSlices",
    "AxialSlicesd",
    "BatchAugment",
    "BatchAugmentd",
    "BodyCrop",
    "BodyCropd",
    "ClassesToIds",
    "ClassesToIdsd",
    "ClearIgnoredd",
    "LoadVolume",
    "LoadVolumed",
    "RemapLabels",
    "RemapLabelsd",
    "RestoreGridd",
    "SaveMask",
    "SaveMaskd",
    "SimpleITKReader",
    "Standardise",
    "Standardised",
    "TwoViews",
    "TwoViewsd",
    "affine_between",
    "has_mark",
    "inverse_affine",
    "label_region",
    "sampling_grid",
    "slice_chain",
    "slice_id",
    "upsample_argmax",
    "volume_chain",
]
