"""What a bundle plugs into MONAI's trainer: batches, handlers, checkpoints, pictures."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
