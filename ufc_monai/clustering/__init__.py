"""Clustering features into pseudo-labels. Arrays in and out; knows nothing of bundles."""

from __future__ import annotations

from ufc_monai.base.lazy import names_of

__getattr__ = names_of(__name__)
