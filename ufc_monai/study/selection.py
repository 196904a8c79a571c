"""Labels for the volumes that cover the clusters best, instead of volumes drawn at random."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ufc_monai.clustering import PseudoLabels, covering_order
from ufc_monai.files import write_json

__all__ = ["write_selection"]


def write_selection(
    pseudo_labels: str | os.PathLike[str], target: str | os.PathLike[str], images: Sequence[str]
) -> None:
    """Write the order in which some images are granted labels.

    Args:
        pseudo_labels: a ``pseudo_labels.json``.
        target: the ``selection.json`` to write.
        images: those that have labels, of the training patients.
    """
    write_json(target, {"chosen": covering_order(PseudoLabels.load(pseudo_labels), images)})
