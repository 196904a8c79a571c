"""Dice per volume and structure, as a table that a person and a program can read; and on the volumes trained on."""

from __future__ import annotations

import csv
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai.handlers
import torch
from ignite.engine import Engine
from monai.inferers import Inferer
from monai.metrics import DiceHelper
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ufc_monai.base.files import atomic_path
from ufc_monai.base.ranks import Handler
from ufc_monai.data.slices import SliceDataset
from ufc_monai.report.page import aligned
from ufc_monai.transforms.labels import IGNORE

logger = logging.getLogger(__name__)

MIN_DICE = 0.1
"""Dice on the training volumes below which a structure has not been learned. Structures are picked up one at a time:
one that still waits is near 0, one that has been picked up is soon at 0.5 and more."""


class ClassDice(DiceHelper):
    """MONAI's Dice, of class maps: (B, 1, ...) in, (B, structures) out, NaN where the reference has no such structure.

    It counts the voxels of one structure after the other, where MONAI's sums would take eight bytes a voxel.

    Args:
        n_classes: classes including background, which has no Dice.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__(include_background=False, reduction="none", get_not_nans=False, num_classes=n_classes)

    def compute_channel(self, y_pred: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Dice of two masks (H, W[, D]) of one structure.

        Args:
            y_pred: the prediction.
            y: the reference.
            mask: where voxels count.
        """
        y_pred = y_pred if mask is None else y_pred & mask.bool()
        reference = y.count_nonzero()
        if not reference:
            return torch.tensor(torch.nan, device=y.device)
        return 2.0 * (y & y_pred).count_nonzero() / (reference + y_pred.count_nonzero())


class MeanDice(monai.handlers.MeanDice):
    """MONAI's handler of that name over :class:`ClassDice`, for an evaluator's class maps ``pred`` and ``label``.

    Args:
        n_classes: as of :class:`ClassDice`.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__(output_transform=monai.handlers.from_engine(["pred", "label"]))
        self.metric_fn.dice_helper = ClassDice(n_classes)


@dataclass(eq=False)
class DiceTable(Handler):
    """Write ``dice.csv``, one row a volume and one column a structure, and log the means.

    Mean Dice is taken over the structures present in a volume, then over volumes. A structure that the reference does
    not hold has no Dice there: its cell stays empty.

    Args:
        output_dir: folder of ``dice.csv``.
        names: names of the classes 1..n.
        metric: name of the evaluator's :class:`MeanDice`, which comes first.
    """

    output_dir: str | os.PathLike[str]
    names: Sequence[str]
    metric: str = "mean_dice"

    def _started(self, engine: Engine) -> None:
        self._volumes: list[str] = []

    def _iteration_completed(self, engine: Engine) -> None:
        self._volumes += [Path(item["image"].meta["filename_or_obj"]).name for item in engine.state.output]

    def _completed(self, engine: Engine) -> None:
        path, dice = Path(self.output_dir, "dice.csv"), engine.state.metric_details[self.metric].cpu()
        per_structure = {n: mean_over_present(dice[:, [i]]) for i, n in enumerate(self.names)}
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["volume", "mean", *self.names])
            for volume, values in zip(self._volumes, dice, strict=True):
                cells = ["" if v.isnan() else f"{v:.6f}" for v in (values.nanmean(), *values)]
                rows.writerow([volume, *cells])
        mean = engine.state.metrics["mean_dice"] = mean_over_present(dice)
        engine.state.metrics |= {f"dice_{name}": value for name, value in per_structure.items()}
        lines = aligned([(name, f"{value:.3f}") for name, value in per_structure.items()])
        logger.info("Dice of %d volumes (%s)\n%s", len(dice), path, lines)
        logger.info("mean Dice per volume %.3f", mean)


def mean_over_present(dice: Tensor) -> float:
    """Mean over the structures present in a volume, then over volumes.

    Args:
        dice: (volumes, structures), NaN where the reference does not hold the structure.

    Returns:
        The mean; NaN if there is nothing to average.
    """
    return float(torch.nanmean(torch.nanmean(dice.float(), dim=1)))


@torch.inference_mode()
def training_dice(
    network: nn.Module,
    dataset: SliceDataset,
    names: Sequence[str],
    inferer: Inferer,
    device: torch.device | str,
    *,
    batch_size: int = 16,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Any]:
    """Dice of every structure on the training volumes, on the network's grid, without augmentation.

    Args:
        network: the fine-tuned network, with the weights that were kept.
        dataset: the labelled training slices.
        names: names of the classes 1..n.
        inferer: runs the network.
        device: where the network is.
        batch_size: slices at a time.
        normalise: what slices go through on their way into the network.

    Returns:
        ``training_dice_<name>``, the mean over the volumes that hold the structure, left out where none does; and
        ``not_converged``, the structures whose mean is below 0.1, which a warning names, too.
    """
    network.eval()
    dice, rows, start = ClassDice(len(names) + 1), [], 0
    for entry in tqdm(dataset.entries, "Dice on training volumes", unit="volume", leave=False, disable=None):
        slices = Subset(dataset, range(start, start + len(entry)))
        start += len(entry)
        predicted, reference = [], []
        for batch in DataLoader(slices, batch_size=batch_size):
            image, label = batch["image"].to(device), batch["label"][:, 0]
            logits = inferer(normalise(image) if normalise else image, network)
            predicted.append(logits.argmax(dim=1).to("cpu", torch.uint8).masked_fill(label == IGNORE, 0))
            reference.append(label.masked_fill(label == IGNORE, 0))
        rows.append(dice(torch.cat(predicted)[None, None], torch.cat(reference)[None, None])[0])
    means = {name: mean_over_present(values[:, None]) for name, values in zip(names, torch.stack(rows).T, strict=True)}
    held = {name: round(value, 4) for name, value in means.items() if not math.isnan(value)}
    stuck = [name for name, value in held.items() if value < MIN_DICE]
    if stuck:
        logger.warning(
            "not converged: %s (Dice below %g on the training volumes themselves). Train longer (min_steps, epochs) "
            "before you compare anything.",
            ", ".join(f"{name} {held[name]:.2f}" for name in stuck),
            MIN_DICE,
        )
    return {**{f"training_dice_{name}": value for name, value in held.items()}, "not_converged": stuck}
