"""The files between the stages: records, weights, pseudo-labels; who made them, and whether that still holds."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
