"""``cut``: another number of clusters from the saved tree, without clustering again."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

from ufc_monai.artifacts.labelling import cut_again
from ufc_monai.base.bundles import VAE
from ufc_monai.base.chain import refuse_stale
from ufc_monai.base.errors import InputError
from ufc_monai.base.lock import at_work

logger = logging.getLogger(__name__)

PLACES = (f"{VAE}/eval/inference", "eval/inference", ".")
"""Where stage 1 leaves its clusters in the folder of a run, of its bundle, and in its own."""


def cut(folder: Path, k: int, *, allow_stale: bool = False) -> Path:
    """Cut the tree of a run at another number of clusters.

    Args:
        folder: of the run, of the bundle ``ufc_feature_vae``, or of the files themselves.
        k: how many.
        allow_stale: cut even if the tree or the features are out of date.

    Returns:
        The new pseudo-labels; those that are there stay.

    Raises:
        InputError: if the tree is missing, ``k`` is out of range, the features have changed, or a run is at work there.
    """
    labels = [folder / place / "pseudo_labels.json" for place in PLACES]
    found = next((path for path in labels if path.is_file()), None)
    if found is None:
        raise InputError(f"--folder: there is no {labels[0]}. Is it a run's folder? Run stage 1 first.")
    lock = folder / "run.lock"
    with at_work(lock) if lock.is_file() else nullcontext():
        refuse_stale([found.with_name("features.npz"), found], allow=allow_stale)
        written = cut_again(found.parent, k)
    logger.info("%d clusters: %s, beside it clusters_k%d.png", k, written, k)
    logger.info("to use them: run again with --n_clusters %d --replace True, or start stage 2 yourself with", k)
    logger.info("--pseudo_labels_path %s", written)
    return written
