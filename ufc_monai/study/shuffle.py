"""The negative control's pseudo-labels: those of the clusters, dealt out anew over all slices."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np

from ufc_monai.clustering import PseudoLabels

__all__ = ["shuffle_pseudo_labels"]


def shuffle_pseudo_labels(source: str | os.PathLike[str], target: str | os.PathLike[str], seed: int) -> None:
    """Write pseudo-labels with the same clusters' sizes and nothing else of them.

    Args:
        source: a ``pseudo_labels.json``.
        target: the file to write.
        seed: of the permutation.
    """
    labels = PseudoLabels.load(source)
    images = sorted(labels.clusters)
    dealt = np.random.default_rng(seed).permutation([c for image in images for c in labels.clusters[image]]).tolist()
    rest = iter(dealt)
    clusters = {image: list(itertools.islice(rest, len(labels.clusters[image]))) for image in images}
    provenance = {**labels.provenance, "shuffled_with_seed": seed, "shuffled_from": Path(source).as_posix()}
    PseudoLabels(clusters, labels.n_clusters, provenance).save(target)
