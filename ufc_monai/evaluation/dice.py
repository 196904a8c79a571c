"""Dice per volume and structure, as a table that a person and a program can read."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import monai.handlers
import torch
from ignite.engine import Engine
from monai.metrics import DiceHelper
from torch import Tensor

from ufc_monai.base.files import atomic_path
from ufc_monai.base.ranks import Handler
from ufc_monai.report.markdown import aligned

logger = logging.getLogger(__name__)


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
                cells = ["" if v.isnan() else f"{v:.4f}" for v in (values.nanmean(), *values)]
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
