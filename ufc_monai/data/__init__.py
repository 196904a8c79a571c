"""Data: finding volumes, splitting patients, the slice store, and the synthetic phantom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ufc_monai.data.case import MMWHS_LABELS, Case
from ufc_monai.data.datalist import (
    find_cases,
    find_ignore_id,
    find_labels,
    image_items,
    require_dataset_dir,
    resolve_labels,
)
from ufc_monai.data.draw import make_split
from ufc_monai.data.partition_sampler import PartitionSampler
from ufc_monai.data.region import resolve_region
from ufc_monai.data.skip import Scans, open_scans, without_bad
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split import Split
from ufc_monai.data.split_file import open_split, shared_split_path
from ufc_monai.data.store import SliceStore
from ufc_monai.lazy import import_when_used

if TYPE_CHECKING:
    from ufc_monai.data.phantom import make_phantom
    from ufc_monai.data.phantom_skin import make_skin_phantom
else:
    __getattr__ = import_when_used(__name__, {"make_phantom": "phantom", "make_skin_phantom": "phantom_skin"})

__all__ = [
    "MMWHS_LABELS",
    "Case",
    "PartitionSampler",
    "Scans",
    "SliceDataset",
    "SliceStore",
    "Split",
    "find_cases",
    "find_ignore_id",
    "find_labels",
    "image_items",
    "make_phantom",
    "make_skin_phantom",
    "make_split",
    "open_scans",
    "open_split",
    "require_dataset_dir",
    "resolve_labels",
    "resolve_region",
    "shared_split_path",
    "without_bad",
]
