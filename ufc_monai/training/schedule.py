"""How slowly BYOL's target network follows."""

from __future__ import annotations

import math

from ignite.engine import Engine, Events


class MomentumSchedule:
    """The momentum of ``EMAHandler`` falls to 0 along half a cosine (Grill et al. 2020, Sec. 3.3).

    It is a matter of the step alone, so that a checkpoint need not know of it. List it behind the ``EMAHandler``.

    Args:
        momentum: of the first step, as ignite counts it: the share of the new weights.
        steps: of the whole training.
    """

    def __init__(self, momentum: float, steps: int) -> None:
        self.momentum = momentum
        self.steps = steps

    def attach(self, engine: Engine) -> None:
        """Set the momentum of a trainer's next step."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._set)

    def _set(self, engine: Engine) -> None:
        engine.state.ema_momentum = self.momentum * (1 + math.cos(math.pi * engine.state.iteration / self.steps)) / 2
