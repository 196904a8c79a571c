"""Pictures and the report. Plain arrays and files in, PNG and HTML out; needs neither PyTorch nor MONAI."""

from __future__ import annotations

from ufc_monai.report.clusters import save_cluster_map, save_cluster_montage, save_elbow, save_embedding_map
from ufc_monai.report.drawing import radiological
from ufc_monai.report.html import write_report
from ufc_monai.report.pairs import PAIRS_MEAN, pair_text
from ufc_monai.report.selection import save_coverage
from ufc_monai.report.slices import Overlay, save_overlays, save_preview, save_reconstructions, save_views
from ufc_monai.report.summary import run_summary

__all__ = [
    "PAIRS_MEAN",
    "Overlay",
    "pair_text",
    "radiological",
    "run_summary",
    "save_cluster_map",
    "save_cluster_montage",
    "save_coverage",
    "save_elbow",
    "save_embedding_map",
    "save_overlays",
    "save_preview",
    "save_reconstructions",
    "save_views",
    "write_report",
]
