"""Synthetic patients and pictures, for the demo and the tests: real ones may not be passed on."""

from __future__ import annotations

from ufc_monai.phantom.ct import make_phantom
from ufc_monai.phantom.skin import make_skin_phantom

__all__ = ["make_phantom", "make_skin_phantom"]
