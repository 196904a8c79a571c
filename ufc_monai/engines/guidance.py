"""Pseudo-labels on their way into stage 2."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from monai.transforms import Transform

from ufc_monai.clustering import PseudoLabels
from ufc_monai.data import SliceDataset, Split
from ufc_monai.errors import InputError
from ufc_monai.losses import uses_clusters

__all__ = ["PseudoLabeld", "check_pseudo_labels", "open_pseudo_labels"]

logger = logging.getLogger(__name__)

NO_CLUSTER = -1
"""The cluster of every slice when no pseudo-labels are used."""


def open_pseudo_labels(path: str | None) -> PseudoLabels | None:
    """Read the pseudo-labels at ``path``; ``None`` or ``"none"`` for a method that uses none."""
    return None if path is None or str(path).lower() == "none" else PseudoLabels.load(path)


class PseudoLabeld(Transform):
    """Add ``cluster``, the pseudo-label of a slice, found by the slice's ``id``; -1 without pseudo-labels.

    Args:
        pseudo_labels: as :func:`open_pseudo_labels` gives them.
    """

    def __init__(self, pseudo_labels: PseudoLabels | None) -> None:
        self.pseudo_labels = pseudo_labels

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Label one slice."""
        cluster = NO_CLUSTER
        if self.pseudo_labels is not None:
            image, _, index = data["id"].rpartition("#")
            cluster = self.pseudo_labels.lookup(image, int(index))
        return {**data, "cluster": cluster}


def check_pseudo_labels(
    pseudo_labels: PseudoLabels | None, dataset: SliceDataset, split: Split, fold: int, preset: str
) -> None:
    """Refuse pseudo-labels that were made for other slices, another split or another fold, or a lack of them.

    Raises:
        InputError: naming ``pseudo_labels_path`` and what differs.
    """
    if pseudo_labels is None:
        if uses_clusters(preset):
            raise InputError(f"pseudo_labels_path is none, but contrast {preset!r} needs pseudo-labels: run stage 1.")
        return
    origin = pseudo_labels.provenance
    if origin.get("split_sha256") != split.sha256 or origin.get("fold") != fold:
        raise InputError(
            f"pseudo_labels_path: made for fold {origin.get('fold')} of split {str(origin.get('split_sha256'))[:8]}, "
            f"this run has fold {fold} of split {split.sha256[:8]} ({split.path}). Run stage 1 with the same split."
        )
    pseudo_labels.check_images(dataset.slices_per_image())
    logger.info("pseudo-labels: %d clusters for %d slices", pseudo_labels.n_clusters, len(dataset))
