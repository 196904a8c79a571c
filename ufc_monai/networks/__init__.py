"""Networks: the beta-VAE of stage 1, the UNet encoder of stages 2 and 3, and what contrastive learning puts on it."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
