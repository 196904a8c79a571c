"""What MONAI's transforms lack for this project; array transforms and their dictionary twins (``d``)."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
