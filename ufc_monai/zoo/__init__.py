"""Bundles on their way to others: metadata, model cards, packages."""

from __future__ import annotations

from ufc_monai.zoo.archive import bundle_files, without_patients, write_zip
from ufc_monai.zoo.card import model_card
from ufc_monai.zoo.metadata import metadata_of

__all__ = ["bundle_files", "metadata_of", "model_card", "without_patients", "write_zip"]
