"""Pseudo-labels on their way into stage 2."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Mapping
from typing import Any

from monai.transforms import Transform
from torch import nn

from ufc_monai.base.errors import InputError
from ufc_monai.base.sample import spread
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split import Split
from ufc_monai.losses.contrastive import uses_groups

logger = logging.getLogger(__name__)

MATES = ("cluster", "position", "partition")
LOOKED_AT = 64
"""Slices, spread over the data set, that tell whether there is anything to see."""
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


class SliceNumberd(Transform):
    """Add ``slice``, a number that a slice is known by in a tensor: a checksum of its ``id``."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Number one slice. Should two slices share a number, each misses one negative of thousands."""
        return {**data, "slice": zlib.crc32(data["id"].encode())}


def check_slices(dataset: SliceDataset) -> None:
    """Refuse slices in which no shape can be found.

    Raises:
        InputError: if there is but one, or all of those that are looked at are of one grey.
    """
    if len(dataset) == 1:
        raise InputError(
            f"dataset_dir: {dataset.data[0]['image']} is the only slice, and a shape is found by what several have in "
            "common. Add more."
        )
    looked_at = (dataset.stored(i)["image"] for i in spread(len(dataset), LOOKED_AT))
    if all(image.min() == image.max() for image in looked_at):
        raise InputError(
            f"dataset_dir: the slices are empty, as of {dataset.data[0]['image']}: each is of one grey. Look at the "
            "images, and at window."
        )


def check_guidance(
    mates: str,
    threshold: float | None,
    pseudo_labels: PseudoLabels | None,
    dataset: SliceDataset,
    split: Split,
    fold: int,
    preset: str | None,
    loss: nn.Module,
) -> None:
    """Refuse to start without what a method groups slices by, or with pseudo-labels that were made for other slices.

    Args:
        mates: what groups slices: ``"cluster"``, ``"partition"`` or ``"position"``.
        threshold: of positions.
        pseudo_labels: as :func:`open_pseudo_labels` gives them.
        dataset: the slices.
        split: of the run.
        fold: of the run.
        preset: of the loss; ``None`` for one that groups nothing.
        loss: that is trained with.

    Raises:
        InputError: naming ``pseudo_labels_path`` and what differs, or that there are no positions.
    """
    if preset is not None and not hasattr(loss, "preset"):
        raise InputError(f"loss_preset is {preset!r}, but this method contrasts nothing: leave loss_preset null.")
    if mates not in MATES or mates not in dataset[0]:
        raise InputError(f"mates must be cluster or position, or partition with glcl.json; got {mates!r}.")
    if mates != "cluster":
        _check_positions(mates, dataset)
        if mates == "position" and threshold is None:
            raise InputError("mates position needs a mates_threshold, such as 0.1 (pcl.json).")
    elif pseudo_labels is None and preset is not None and uses_groups(preset):
        raise InputError(f"pseudo_labels_path is none, but loss_preset {preset!r} needs pseudo-labels: run stage 1.")
    if pseudo_labels is not None:
        _check_origin(pseudo_labels, split, fold)
        pseudo_labels.check_images(dataset.slices_per_image())
        logger.info("pseudo-labels: %d clusters for %d slices", pseudo_labels.n_clusters, len(dataset))


def _check_positions(mates: str, dataset: SliceDataset) -> None:
    if all(n == 1 for n in dataset.slices_per_image().values()):
        raise InputError(
            f"this method groups slices by their {mates} in the volume, and this data set holds single pictures: take "
            "one that needs none, such as simclr or ufc."
        )


def _check_origin(pseudo_labels: PseudoLabels, split: Split, fold: int) -> None:
    origin = pseudo_labels.provenance
    if origin.get("split_sha256") != split.sha256 or origin.get("fold") != fold:
        raise InputError(
            f"pseudo_labels_path: made for fold {origin.get('fold')} of split {str(origin.get('split_sha256'))[:8]}, "
            f"this run has fold {fold} of split {split.sha256[:8]} ({split.path}). Run stage 1 with the same split."
        )
