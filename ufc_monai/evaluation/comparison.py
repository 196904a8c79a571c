"""A run's clusters, those of other runs, and baselines, on the same slices with the same labels."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from ufc_monai.artifacts.labelling import assign_slices
from ufc_monai.artifacts.prototypes import projected
from ufc_monai.artifacts.pseudo_label import thumbnails_of
from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.chain import CLUSTERS, FINE_TUNING, LABELS, PROBE, record_of
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json
from ufc_monai.clustering.patients import stratify
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.quality import raw_pixels
from ufc_monai.clustering.space import load_space
from ufc_monai.data.label_names import find_ignore_id, resolve_labels
from ufc_monai.evaluation.agreement import (
    GROUPS,
    Numbers,
    Observed,
    Row,
    judge,
    k_means,
    majority_rate,
    of_predictions,
)
from ufc_monai.evaluation.observers import RULES, area, dominant, level, read_labels
from ufc_monai.evaluation.published import Published
from ufc_monai.evaluation.supervised import fine_tuned
from ufc_monai.networks.build import build_network
from ufc_monai.transforms.labels import RemapLabelsd

logger = logging.getLogger(__name__)

COMPONENTS = 50
"""Of the principal components of raw pixels, at most."""


class Comparison:
    """What is learned from and what is judged on.

    Everything is fitted on the slices that stage 1 trained on. The slices of the split's validation and test patients
    are judged; where none of these has a label, those of a quarter of the labelled patients, whose labels are not used.

    Args:
        run: folder of the run.
        dataset_dir: folder of its data set.
        labels: a CSV, or a name in :data:`RULES`.
        device: where to compute.

    Attributes:
        seen: the labels.
        k: number of the run's clusters.

    Raises:
        InputError: if the run has no clusters, or the labels do not fit or tell nothing apart.
    """

    def __init__(self, run: Path, dataset_dir: Path, labels: str, device: str) -> None:
        self.run, self.dataset_dir, self.device = run, dataset_dir, device
        self.stage_1 = Published.open(run, VAE, device)
        self.k = PseudoLabels.load(run / LABELS).n_clusters
        self.split, self.fold = self.stage_1.split(dataset_dir), self.stage_1.record["fold"]
        held_out = self.split.held_out(self.fold)
        self.items = [*self.split.pretraining(self.fold), *held_out]
        self.slices = self.stage_1.slices(self.items, dataset_dir)
        self.patients = np.array([item["patient"] for item in self.slices.items])
        by_id = self._labels(labels)
        names = sorted(set(by_id.values()))
        classes = np.array([names.index(by_id[i["id"]]) if i["id"] in by_id else -1 for i in self.slices.items])
        self._of_split = np.isin(self.patients, sorted({item["patient"] for item in held_out}))
        held = self._held(classes)
        self.learned, self.judged = np.flatnonzero(~held & ~self._of_split), np.flatnonzero(held & (classes >= 0))
        self.seen = Observed(classes[self.learned], classes[self.judged], self.patients[self.judged], names)
        if len(np.unique(self.seen.training[self.seen.known])) < 2:
            raise InputError("--labels: the slices to learn from have one class; there is nothing to tell apart.")

    def rows(self, beside: list[Path], steps: int) -> Iterator[tuple[str, Row]]:
        """Each method's name and measures.

        Args:
            beside: folders of further runs with the same split and fold.
            steps: of fine-tuning the supervised baselines.

        Raises:
            InputError: if a run has another split or no clusters.
        """
        yield "most frequent class", majority_rate(self.seen)
        pixels = raw_pixels(thumbnails_of(self.slices))
        yield "raw pixels, k-means", self._clustered(pixels)
        most = min(COMPONENTS, len(self.learned), pixels.shape[1])
        components = PCA(most, svd_solver="full").fit(pixels[self.learned])
        yield f"{most} components of pixels, k-means", self._clustered(components.transform(pixels))
        runs = list(dict.fromkeys((self.run, *beside)))  # each once
        names = [run.name for run in runs]
        for run in runs:
            yield from self._of_run(run, run.name if names.count(run.name) == 1 else str(run))
        yield from self._supervised(steps)

    def _of_run(self, run: Path, name: str) -> Iterator[tuple[str, Row]]:
        stage_1 = Published.open(run, VAE, self.device)
        if any(stage_1.record[key] != self.stage_1.record[key] for key in ("split_sha256", "fold")):
            raise InputError(f"--beside: {run} has another split or fold than {self.run}. Name runs with the same.")
        codes = stage_1.codes(stage_1.slices(self.items, self.dataset_dir))
        k, by, clusters = self._clusters(run, codes)
        row = judge(self.seen, self._parts(codes), self._parts(clusters), k)
        if len(set(self.patients[~self._of_split])) < sum(~self._of_split):
            row[GROUPS] = float(adjusted_rand_score(self._groups(self.run), self._groups(run)))
        yield f"{name}: clusters of stage 1, new slices by {by}", row
        if (projections := projected(run / VAE / "models", codes)) is not None:
            yield f"{name}: projections, k-means", self._clustered(projections)
        if stage_2 := self._stage_2(run):
            codes = stage_2.codes(stage_2.slices(self.items, self.dataset_dir))
            yield f"{name}: encoder of stage 2, k-means", self._clustered(codes)

    def _clusters(self, run: Path, codes: NDArray[np.float32]) -> tuple[int, str, Numbers]:
        """Those that stage 1 gave its slices, and the best for new ones: how many, best by what, and of each slice."""
        labels, given = self._given(run)
        centres = run / CLUSTERS.place / "centroids.npz"
        clusters = assign_slices(centres, codes, self.patients.tolist())
        clusters[~self._of_split] = given
        return labels.n_clusters, "prototype" if load_space(centres).prototypes else "centre", clusters

    def _given(self, run: Path) -> tuple[PseudoLabels, Numbers]:
        """A run's pseudo-labels, and those of the slices of stage 1."""
        labels = PseudoLabels.load(run / LABELS)
        own = compress(self.slices.items, ~self._of_split)
        return labels, np.array(labels.of_slices(item["id"] for item in own))

    def _groups(self, run: Path) -> Numbers:
        labels, given = self._given(run)
        return stratify(given, self.patients[~self._of_split].tolist(), labels.n_clusters).groups

    def _parts(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Those of the slices to learn from, and to judge on."""
        return values[self.learned], values[self.judged]

    def _supervised(self, steps: int) -> Iterator[tuple[str, Row]]:
        stage_2 = self._stage_2(self.run)
        if stage_2 is None:
            return
        slices = stage_2.slices(self.items, self.dataset_dir)
        classes = np.full(len(slices), -1)
        classes[self.learned] = self.seen.training
        with torch.random.fork_rng():
            torch.manual_seed(0)
            untrained = build_network(stage_2.record["architecture"]).to(self.device)
        for name, encoder in (("stage 2", stage_2.network), ("random weights", untrained)):
            predicted = fine_tuned(encoder, stage_2, slices, classes, self.judged.tolist(), steps=steps)
            yield f"supervised, from {name}", of_predictions(self.seen, predicted)

    def _stage_2(self, run: Path) -> Published | None:
        """The encoder of a run, if it has one of its own."""
        record = found_json(run / CONTRASTIVE / "models" / "network.json", "--weights")
        return Published.open(run, CONTRASTIVE, self.device) if record and "demonstration" not in record else None

    def _clustered(self, codes: NDArray[np.float64] | NDArray[np.float32]) -> Row:
        parts = self._parts(codes)
        return judge(self.seen, parts, k_means(parts, self.k), self.k)

    def _labels(self, labels: str) -> dict[str, str]:
        if labels not in RULES:
            return read_labels(Path(labels), self.slices.slices_per_image())
        records = (record_of(self.run, stage).get("settings", {}) for stage in (FINE_TUNING, PROBE))
        settings = next(filter(None, records), None)
        settings = settings or read_json(self.run / UNET / "configs" / "train.json", "--weights")
        ids = resolve_labels(settings["labels"], self.dataset_dir)
        ignored = find_ignore_id(settings["labels"], self.dataset_dir)
        remap = RemapLabelsd("label", ids, settings["background_labels"], ignored)
        training = self.split.labelled(self.fold)
        items = [*training, *self.split.validation(self.fold)]
        items += self.split.test(self.fold) if self.split.holds_out else []
        slices = self.stage_1.slices(items, self.dataset_dir, remap)
        if labels == "dominant":
            return dominant(slices, list(ids))
        rule = {"area": area, "level": level}[labels]
        return rule(slices, list(ids), {item["patient"] for item in training})

    def _held(self, classes: Numbers) -> NDArray[np.bool_]:
        if (classes[self._of_split] >= 0).any():
            return self._of_split
        labelled = np.unique(self.patients[classes >= 0])
        if len(labelled) < 2:
            raise InputError("--labels: one patient has labels; one to learn from and one to judge on are needed.")
        quarter = np.random.default_rng(0).permutation(labelled)[: max(1, len(labelled) // 4)]
        logger.info(
            "no validation or test patient has a label: %d of the %d labelled patients are judged on; stage 1 knows "
            "their slices, not their labels",
            *(len(quarter), len(labelled)),
        )
        return np.isin(self.patients, quarter)
