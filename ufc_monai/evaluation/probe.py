"""The linear probe: can the presence of a structure be read off the encoder's features?

A diagnostic of stage 2, in seconds. Fine-tuned Dice hides bad clusters, the probe shows them; it selects nothing. The
same labels tell which pairs of slices a method should not have pushed apart.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader
from tqdm import tqdm

from ufc_monai.artifacts.features import encode
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of, write_json
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.quality import count_false_negatives
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.split import Split
from ufc_monai.report.page import aligned
from ufc_monai.report.summary import PAIRS_MEAN, pair_text

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 1000
"""Of the logistic regression; standardised features need far fewer."""


@dataclass
class LinearProbe:
    """Predict from a slice's features which structures it holds, beside an untrained encoder's features.

    A logistic regression for each structure learns on the slices of all labelled training volumes; its AUC is that on
    the slices of the validation volumes.

    Args:
        output_dir: folder of ``probe.json``.
        encoder: the pretrained encoder, (B, C, H, W) to (B, F).
        untrained: the same architecture with random weights.
        training: labelled slices of the training patients.
        validation: labelled slices of the validation patients.
        names: names of the classes 1..n.
        device: where the encoders are.
        seed: of the order in which slices calibrate the untrained encoder.
        num_workers: processes that load slices.
        pseudo_labels_path: clusters whose false negatives are counted; without such a file they are left out.
    """

    output_dir: str | os.PathLike[str]
    encoder: nn.Module
    untrained: nn.Module
    training: SliceDataset
    validation: SliceDataset
    names: Sequence[str]
    device: torch.device | str
    seed: int = 0
    num_workers: int = 0
    pseudo_labels_path: str | os.PathLike[str] = "none"

    def run(self) -> dict[str, float]:
        """Probe both encoders and write ``probe.json``.

        Returns:
            ``probe_auc`` and ``probe_auc_untrained``, the means over structures, for the record; without those that no
            structure has.

        Raises:
            InputError: if the pseudo-labels are of other data.
        """
        sides = (self.training, self.validation)
        present, held_out = (np.asarray(side.class_counts(len(self.names) + 1)[:, 1:] > 0) for side in sides)
        pairs = count_false_negatives(present, self._clusters(), _positions(self.training))
        calibrate_norms(self.untrained, self.training, self.device, self.seed)
        scores: dict[str, list[float | None]] = {}
        for which, encoder in (("pretrained", self.encoder), ("untrained", self.untrained)):
            x, y = (encode(encoder, side, self.device, num_workers=self.num_workers) for side in sides)
            scores[which] = [probe_auc(x, there, y, seen) for there, seen in zip(present.T, held_out.T, strict=True)]
        means = {which: _mean(auc) for which, auc in scores.items()}
        content: dict[str, Any] = {
            "structures": {n: {which: auc[i] for which, auc in scores.items()} for i, n in enumerate(self.names)},
            "mean": means,
            "training_volumes": len(self.training.entries),
            "validation_volumes": len(self.validation.entries),
            "false_negatives": pairs,
            "clusterings": self._all_clusterings(present),
        }
        write_json(Path(self.output_dir, "probe.json"), content)
        _show(content)
        results = {"probe_auc": means["pretrained"], "probe_auc_untrained": means["untrained"]}
        return {key: value for key, value in results.items() if value is not None}

    def _clusters(self) -> NDArray[np.int64] | None:
        """The clusters of the training slices, if there are any."""
        path = Path(self.pseudo_labels_path)
        if not path.is_file():
            logger.info("no pseudo-labels at %s: the false negatives of UFC are left out", path)
            return None
        labels = PseudoLabels.load(path)
        labels.check_images(self.training.slices_per_image())
        return self._of_training(labels)

    def _of_training(self, labels: PseudoLabels) -> NDArray[np.int64]:
        return np.array(labels.of_slices(item["id"] for item in self.training.items))

    def _all_clusterings(self, present: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
        """What UFC would do with each clustering of stage 1, by its file; those of other slices are left out."""
        shares, own = {}, Path(self.pseudo_labels_path).absolute()
        folder = own.parent.parent
        for path in sorted(folder.glob("*/pseudo_labels*.json")) if own.is_file() else ():
            with contextlib.suppress(InputError):
                row = count_false_negatives(present, self._of_training(PseudoLabels.load(path)))["ufc"]
                shares[path.relative_to(folder).as_posix()] = {**row, "sha256": sha256_of(path)}
        return shares


def _show(content: Mapping[str, Any]) -> None:
    scores = {**content["structures"], "mean": content["mean"]}
    rows = [[name, *("-" if v is None else f"{v:.3f}" for v in auc.values())] for name, auc in scores.items()]
    logger.info(
        "linear probe, is the structure in the slice? AUC, from %d training to %d validation volumes\n%s\nThis is a "
        "diagnostic of the pretraining; it selects nothing.",
        content["training_volumes"],
        content["validation_volumes"],
        aligned([("structure", "pretrained", "untrained"), *rows]),
    )
    pairs = pair_text(content["false_negatives"], content["clusterings"])
    logger.info("pairs of the training volumes' slices\n%s\n%s", pairs, PAIRS_MEAN)


def check_probe(split: Split, fold: int) -> None:
    """Refuse a split on which nothing can be probed.

    Raises:
        InputError: if there are no labelled training volumes, or no labelled validation volumes.
    """
    if not split.labelled(fold):
        raise InputError(f"the linear probe needs labels, and {split.dataset_dir} has none for its training patients.")
    if not split.validation(fold):
        raise InputError(
            f"the linear probe needs validation patients, and {split.path} holds out none: fewer than 4 labelled "
            "patients. There is nothing to probe on."
        )


def _positions(slices: SliceDataset) -> NDArray[np.float64] | None:
    """The slices' positions in their volumes; ``None`` for single pictures, which have none."""
    if all(n == 1 for n in slices.slices_per_image().values()):
        return None
    return slices.items.column("position")


def calibrate_norms(encoder: nn.Module, dataset: SliceDataset, device: torch.device | str, seed: int) -> None:
    """Give an untrained encoder's batch norms the statistics of one pass over some slices, in random order.

    Without it every slice has almost the same features, and a comparison would flatter the pretrained encoder.
    """
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(dataset, batch_size=128, shuffle=True, generator=order)
    bar = tqdm(loader, "calibration", unit="batch", leave=False, disable=None)
    update_bn((batch["image"] for batch in bar), encoder, torch.device(device))


def probe_auc(
    features: NDArray[Any], present: NDArray[np.bool_], held_out: NDArray[Any], held_out_present: NDArray[np.bool_]
) -> float | None:
    """AUC of a logistic regression on standardised features.

    Args:
        features: to learn from, (n, F).
        present: whether the structure is there, (n,).
        held_out: to judge on, (m, F).
        held_out_present: whether the structure is there, (m,).

    Returns:
        In [0, 1], 0.5 is chance; ``None`` where all or none of the slices, of either, hold the structure.
    """
    if len(set(present.tolist())) < 2 or len(set(held_out_present.tolist())) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS)).fit(features, present)
    return round(float(roc_auc_score(held_out_present, model.decision_function(held_out))), 4)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None
