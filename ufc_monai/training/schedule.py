"""How slowly BYOL's target network follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ignite.engine import Engine

from ufc_monai.base.ranks import Handler


@dataclass(eq=False)
class MomentumSchedule(Handler):
    """The momentum of ``EMAHandler`` falls to 0 along half a cosine (Grill et al. 2020, Sec. 3.3).

    It depends on the step alone, so that no checkpoint needs to hold it. List it behind the ``EMAHandler``.

    Args:
        momentum: of the first step, as ignite counts it: the share of the new weights.
        steps: of the whole training.
    """

    momentum: float
    steps: int

    def _iteration_completed(self, engine: Engine) -> None:
        engine.state.ema_momentum = self.momentum * (1 + math.cos(math.pi * engine.state.iteration / self.steps)) / 2
