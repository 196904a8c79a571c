"""Synthetic patients and pictures, for the demo and the tests: real ones may not be passed on."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
