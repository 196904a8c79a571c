"""Pictures and the report. Plain arrays and files in, PNG and HTML out; needs neither PyTorch nor MONAI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ufc_monai.lazy import import_when_used

if TYPE_CHECKING:
    from ufc_monai.report.clusters import save_cluster_map, save_cluster_montage, save_elbow, save_embedding_map
    from ufc_monai.report.drawing import radiological
    from ufc_monai.report.pairs import PAIRS_MEAN, pair_text
    from ufc_monai.report.run import write_report
    from ufc_monai.report.selection import save_coverage
    from ufc_monai.report.slices import Overlay, save_overlays, save_preview, save_reconstructions, save_views
    from ufc_monai.report.summary import run_summary
else:
    __getattr__ = import_when_used(
        __name__,
        {
            "save_cluster_map": "clusters",
            "save_cluster_montage": "clusters",
            "save_elbow": "clusters",
            "save_embedding_map": "clusters",
            "radiological": "drawing",
            "write_report": "run",
            "PAIRS_MEAN": "pairs",
            "pair_text": "pairs",
            "save_coverage": "selection",
            "Overlay": "slices",
            "save_overlays": "slices",
            "save_preview": "slices",
            "save_reconstructions": "slices",
            "save_views": "slices",
            "run_summary": "summary",
        },
    )

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
