"""Dice per volume and structure, as a table that a person and a program can read."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ufc_monai.files import atomic_path

__all__ = ["DiceTable", "mean_over_present"]

logger = logging.getLogger(__name__)


class DiceTable:
    """Write ``dice.csv``, one row a volume and one column a structure, and log the means.

    Mean Dice is taken over the structures present in a volume, then over volumes. A structure that the reference does
    not hold has no Dice there: its cell stays empty.

    Args:
        output_dir: folder of ``dice.csv``.
        names: names of the classes 1..n.
        metric: name of the evaluator's ``MeanDice``, without background.
    """

    def __init__(self, output_dir: str | os.PathLike[str], names: Sequence[str], metric: str = "mean_dice") -> None:
        self.path = Path(output_dir) / "dice.csv"
        self.names = list(names)
        self.metric = metric
        self._volumes: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Read the metric of an evaluator, behind the metric's own handlers."""
        engine.add_event_handler(Events.STARTED, lambda _: self._volumes.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_volumes)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _note_volumes(self, engine: Engine) -> None:
        self._volumes += [str(item["image"].meta["filename_or_obj"]) for item in engine.state.output]

    def _write(self, engine: Engine) -> None:
        dice = engine.state.metric_details[self.metric].cpu()
        per_structure = {n: mean_over_present(dice[:, [i]]) for i, n in enumerate(self.names)}
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["volume", "mean", *self.names])
            for volume, values in zip(self._volumes, dice, strict=True):
                cells = ["" if v.isnan() else f"{v:.4f}" for v in (values.nanmean(), *values)]
                rows.writerow([Path(volume).name, *cells])
        engine.state.metrics |= {"mean_dice": mean_over_present(dice)}
        engine.state.metrics |= {f"dice_{name}": value for name, value in per_structure.items()}
        width = max(len(name) for name in ["structure", *self.names])
        lines = [f"{name:<{width}}  {value:.3f}" for name, value in per_structure.items()]
        logger.info("Dice of %d volumes (%s)\n%s", len(dice), self.path, "\n".join(lines))
        logger.info("mean Dice per volume %.3f", engine.state.metrics["mean_dice"])


def mean_over_present(dice: Tensor) -> float:
    """Mean over the structures present in a volume, then over volumes.

    Args:
        dice: (volumes, structures), NaN where the reference does not hold the structure.

    Returns:
        The mean; NaN if there is nothing to average.
    """
    return float(torch.nanmean(torch.nanmean(dice.float(), dim=1)))
