"""What stops a training that has broken down, and passes over a batch that teaches nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ignite.engine import Engine
from monai.engines import IterationEvents
from torch import Tensor, nn

from ufc_monai.errors import InputError
from ufc_monai.losses import ContrastiveLoss

__all__ = ["LossGuard"]

logger = logging.getLogger(__name__)

NAMED = 8
"""Slices that the error names; the log names all."""


class LossGuard:
    """Stop at a loss that is not finite, before it reaches the weights; skip batches without a valid anchor.

    A skipped batch leaves weights and optimiser as they are. Their number so far is the metric ``skipped_batches``.

    Args:
        loss: of the training.

    Raises:
        InputError: during training, naming step and slices.
    """

    def __init__(self, loss: nn.Module) -> None:
        self.loss = loss if isinstance(loss, ContrastiveLoss) else None

    def attach(self, engine: Engine) -> None:
        """Watch one of MONAI's trainers."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)
        if self.loss is not None:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._skip_empty)

    def _check(self, engine: Engine) -> None:
        loss: Tensor = engine.state.output["loss"].detach()
        if not loss.isfinite():
            ids: Sequence[str] = engine.state.batch["id"]
            logger.error("the batch's slices: %s", ", ".join(ids))
            more = f" and {len(ids) - NAMED} more (see the log)" if len(ids) > NAMED else ""
            raise InputError(
                f"the loss is {loss.item():g} at step {engine.state.iteration} (epoch {engine.state.epoch}), on the "
                f"slices {', '.join(ids[:NAMED])}{more}. Look at them, or lower learning_rate; the checkpoint "
                "of before stands."
            )

    def _skip_empty(self, engine: Engine) -> None:
        if self.loss is not None and self.loss.figures.dropped == 1:
            engine.optimizer.zero_grad(set_to_none=True)  # without gradients, a step changes nothing
            metrics = engine.state.metrics
            metrics["skipped_batches"] = metrics.get("skipped_batches", 0) + 1
