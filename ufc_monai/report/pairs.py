"""False negatives, in words: which pairs of slices a method pushes apart, and which it should not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ufc_monai.report.markdown import aligned

METHODS = {"simclr": "SimCLR, MoCo", "glcl": "GLCL", "pcl": "PCL", "ufc": "UFC, these clusters"}
PAIRS_HEAD = ("method", "pairs pushed apart", "of these, alike: false negatives", "of those drawn together, alike")
PAIRS_MEAN = (
    "Two slices are alike if they show the same structures. Pushing alike slices apart teaches the encoder that the "
    "same anatomy is different: fewer false negatives are better, as long as enough pairs are left to push apart."
)


def pair_rows(shares: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table below ``PAIRS_HEAD``.

    Args:
        shares: ``false_negatives`` of ``probe.json``.
    """
    return [[name, *_percent(shares[method])] for method, name in METHODS.items() if method in shares]


def pair_text(shares: Mapping[str, Mapping[str, Any]], clusterings: Mapping[str, Mapping[str, Any]]) -> str:
    """The same as lines of text.

    Args:
        shares: see above.
        clusterings: ``clusterings`` of ``probe.json``: the same for each file of clusters; its own are left out.
    """
    others = {name: row for name, row in clusterings.items() if row != {**shares["ufc"], "sha256": row["sha256"]}}
    return aligned(
        [PAIRS_HEAD, *pair_rows(shares), *([f"UFC, {name}", *_percent(row)] for name, row in others.items())]
    )


def _percent(row: Mapping[str, Any]) -> list[str]:
    values = (row[name] for name in ("pushed_apart", "false_negatives", "true_positives"))
    return ["-" if value is None else f"{100 * value:.1f} %" for value in values]
