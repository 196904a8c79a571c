"""Averages of the weights beside a training, judged beside its last weights: a variant of ``recipe.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ignite.engine import Engine
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ufc_monai.base.ranks import Handler
from ufc_monai.self_training import averaged_copy


@dataclass(eq=False)
class Averages(Handler):
    """Leave the moving averages of the weights, and the mean of the late ones, each a file of its own.

    Args:
        network: that learns.
        folder: of its weights; gets ``average/NAME/model.pt``.
        decays: of the moving averages, ``ema_DECAY``.
        late: share of the steps at the end that ``late`` is the mean of.
    """

    network: nn.Module
    folder: str | os.PathLike[str]
    decays: Sequence[float] = (0.99, 0.998)
    late: float = 0.2

    def _started(self, engine: Engine) -> None:
        self._averages = {f"ema_{decay}": averaged_copy(self.network, decay) for decay in self.decays}
        self._averages["late"] = AveragedModel(self.network, use_buffers=True)

    def _iteration_completed(self, engine: Engine) -> None:
        steps = engine.state.max_epochs * engine.state.epoch_length
        for name, average in self._averages.items():
            if name != "late" or engine.state.iteration > (1 - self.late) * steps:
                average.update_parameters(self.network)

    def _completed(self, engine: Engine) -> None:
        for name, average in self._averages.items():
            folder = Path(self.folder) / "average" / name
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(average.module.state_dict(), folder / "model.pt")
