"""How good masks probably are where nothing is labelled: views that agree, calibrated on validation volumes."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
