"""Runs other than the stages' commands: they read the pseudo-labels of the run that they need."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from ufc_monai.base.files import read_json, write_json
from ufc_monai.clustering.coverage import covering_order
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.study.runs import SHUFFLE, Run


def work_on_clusters(folder: Path, run: Run) -> None:
    """Do a run of the kind :data:`SHUFFLE` or :data:`SELECTION`.

    Args:
        folder: of the study.
        run: the run; its ``pseudo_labels.json`` or ``selection.json`` is written.
    """
    source = Path("runs", run.needs[0], "pseudo_labels.json")
    labels = PseudoLabels.load(folder / source)
    if run.kind == SHUFFLE:
        _shuffled(labels, source, run.seed or 0).save(folder / run.folder / "pseudo_labels.json")
    else:
        labelled = read_json(folder / "split.json", "--folder")["folds"][run.fold]["label_orders"][0]
        write_json(folder / run.folder / "selection.json", {"chosen": covering_order(labels, labelled)})


def _shuffled(labels: PseudoLabels, source: Path, seed: int) -> PseudoLabels:
    """The negative control: clusters of the same sizes, dealt out at random over all slices."""
    images = sorted(labels.clusters)
    dealt = np.random.default_rng(seed).permutation([c for image in images for c in labels.clusters[image]]).tolist()
    rest = iter(dealt)
    clusters = {image: list(itertools.islice(rest, len(labels.clusters[image]))) for image in images}
    provenance = {**labels.provenance, "shuffled_with_seed": seed, "shuffled_from": source.as_posix()}
    return PseudoLabels(clusters, labels.n_clusters, provenance)
