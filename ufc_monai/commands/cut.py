"""``cut``: other clusters from the saved tree, in seconds and without fitting anew."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ufc_monai.artifacts.labelling import cut_again
from ufc_monai.base.bundles import VAE
from ufc_monai.base.errors import InputError
from ufc_monai.base.lineage import refuse_stale

logger = logging.getLogger(__name__)

PLACES = (f"{VAE}/eval/inference", "eval/inference", ".")
"""Where stage 1 leaves its clusters in the folder of a run, of its bundle, and in its own."""


def cut(folder: str | os.PathLike[str], n_clusters: int, *, allow_stale: bool = False) -> Path:
    """Cut the tree of a run at another number of clusters.

    Args:
        folder: of the run, of the bundle ``ufc_feature_vae``, or of the files themselves.
        n_clusters: how many.
        allow_stale: cut even if the tree or the features are out of date.

    Returns:
        The new pseudo-labels; those that are there stay.

    Raises:
        InputError: if there is no tree, ``n_clusters`` is out of range, or the features are not those of the record.
    """
    if n_clusters < 2:
        raise InputError(f"--k must be 2 or more, for one cluster leaves no negatives; got {n_clusters}.")
    places = [Path(folder, place) for place in PLACES]
    found = next((place for place in places if (place / "pseudo_labels.json").is_file()), None)
    if found is None:
        raise InputError(
            f"--folder: there is no {places[0] / 'pseudo_labels.json'}. Is it a run's folder? Run stage 1 first."
        )
    refuse_stale([found / "features.npz", found / "pseudo_labels.json"], allow=allow_stale)
    written = cut_again(found, n_clusters)
    logger.info("%d clusters: %s, beside it clusters_k%d.png", n_clusters, written, n_clusters)
    logger.info("to go on with them: run again with --n_clusters %d, or start stage 2 by hand with", n_clusters)
    logger.info("--pseudo_labels_path %s", written)
    return written
