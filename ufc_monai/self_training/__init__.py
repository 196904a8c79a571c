"""Fine-tuning that learns from the unlabelled scans: rounds of labels that the network gives them itself."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
