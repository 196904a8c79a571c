"""What everything stands on: errors, files, formats, devices, ranks, locks, the configuration at work."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
