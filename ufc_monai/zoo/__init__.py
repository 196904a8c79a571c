"""Bundles on their way to others: metadata, model cards, packages."""

from __future__ import annotations

from ufc_monai.zoo.archive import PARTS, bundle_files, without_patients, write_zip
from ufc_monai.zoo.card import model_card
from ufc_monai.zoo.metadata import bundle_metadata, metadata_of, placeholders, write_metadata

__all__ = [
    "PARTS",
    "bundle_files",
    "bundle_metadata",
    "metadata_of",
    "model_card",
    "placeholders",
    "without_patients",
    "write_metadata",
    "write_zip",
]
