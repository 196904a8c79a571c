"""Figures from plain results."""

from __future__ import annotations

from ufc_monai.report.figures import radiological, save_cluster_montage, save_elbow

__all__ = ["radiological", "save_cluster_montage", "save_elbow"]
