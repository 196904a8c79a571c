"""Data: finding volumes, splitting patients, and the slice store."""

from __future__ import annotations

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
    "make_split",
    "open_scans",
    "open_split",
    "require_dataset_dir",
    "resolve_labels",
    "resolve_region",
    "shared_split_path",
    "without_bad",
]
