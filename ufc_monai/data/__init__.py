"""Data: finding volumes, splitting patients, the slice store, and the synthetic phantom."""

from __future__ import annotations

from ufc_monai.data.datalist import Case, find_cases, find_labels, image_items, require_dataset_dir, resolve_labels
from ufc_monai.data.partition_sampler import PartitionSampler
from ufc_monai.data.phantom import MMWHS_LABELS, make_phantom
from ufc_monai.data.phantom_skin import make_skin_phantom
from ufc_monai.data.region import resolve_region
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split import Split, make_split, open_split, shared_split_path
from ufc_monai.data.store import SliceStore

__all__ = [
    "MMWHS_LABELS",
    "Case",
    "PartitionSampler",
    "SliceDataset",
    "SliceStore",
    "Split",
    "find_cases",
    "find_labels",
    "image_items",
    "make_phantom",
    "make_skin_phantom",
    "make_split",
    "open_split",
    "require_dataset_dir",
    "resolve_labels",
    "resolve_region",
    "shared_split_path",
]
