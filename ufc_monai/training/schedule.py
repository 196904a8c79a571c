"""Handlers that keep time: when a training is validated, how slowly BYOL's target network follows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from ufc_monai.base.ranks import Handler

logger = logging.getLogger(__name__)


def epochs_for(epochs: int, min_steps: int, batches: int) -> int:
    """The epochs of a training: as many as are asked for, more where these make too few steps, which the log says.

    Args:
        epochs: asked for.
        min_steps: optimiser steps at least.
        batches: steps of an epoch.
    """
    needed = max(epochs, -(-min_steps // batches))
    if needed > epochs:
        logger.info(
            "epochs: %d instead of %d, which %d batches an epoch take to make min_steps %d; --min_steps 1 keeps to %d",
            *(needed, epochs, batches, min_steps, epochs),
        )
    return needed


def usual_interval(epochs: int) -> int:
    """Epochs between two validations: an eighth of all, for few labels make short epochs, not short validations."""
    return max(1, math.ceil(epochs / 8))


def halved(first: int, second: int) -> Callable[[int], float]:
    """The learning rate of a training in two parts, each of which begins anew, for PyTorch's ``LambdaLR``.

    Args:
        first: steps of the first part.
        second: of the second; the rate is halved behind every tenth of all steps.
    """
    every = max(1, (first + second) // 10)
    return lambda step: 0.5 ** ((step - first if step >= first else step) // every)


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


class FinalValidationHandler(ValidationHandler):
    """MONAI's ``ValidationHandler``, which validates after the last epoch, too.

    With MONAI's own, 39 epochs and an interval of 4 leave the last three epochs unseen: those at the smallest learning
    rates, where weights are often best.

    Args:
        interval: epochs between two validations; :func:`usual_interval` of all by default.
        validator: MONAI's evaluator, which validates.
    """

    def __init__(self, interval: int | None, validator: Evaluator) -> None:
        super().__init__(interval or 0, validator)

    def attach(self, engine: Engine) -> None:
        """Validate a trainer."""

        def is_due(trainer: Engine, epoch: int) -> bool:
            last = int(trainer.state.max_epochs)
            return epoch % (self.interval or usual_interval(last)) == 0 or epoch == last

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)
