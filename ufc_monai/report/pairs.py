"""False negatives, in words: which pairs of slices a method pushes apart, and which it should not have."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PAIRS_HEAD", "PAIRS_MEAN", "pair_rows", "pair_text"]

METHODS = {"simclr": "SimCLR, MoCo", "glcl": "GLCL", "pcl": "PCL", "ufc": "UFC, these clusters"}
PAIRS_HEAD = ("method", "pairs pushed apart", "of these, alike: false negatives", "of those drawn together, alike")
PAIRS_MEAN = (
    "Two slices are alike if they show the same structures. A method that pushes alike slices apart unlearns anatomy: "
    "fewer false negatives are better, as long as enough pairs are left to push apart."
)


def pair_rows(shares: Mapping[str, Mapping[str, float | None]]) -> list[list[str]]:
    """The rows of a table below ``PAIRS_HEAD``, of what ``probe.json`` holds as ``false_negatives``."""
    return [
        [name, *("-" if value is None else f"{100 * value:.1f} %" for value in shares[method].values())]
        for method, name in METHODS.items()
        if method in shares
    ]


def pair_text(shares: Mapping[str, Mapping[str, float | None]]) -> str:
    """The same as lines of text."""
    rows = [list(PAIRS_HEAD), *pair_rows(shares)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
