"""What stops a training that has broken down, and passes over a batch that teaches nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import Tensor

from ufc_monai.base.errors import InputError
from ufc_monai.losses.protocol import DROPPED, figures_of

logger = logging.getLogger(__name__)

NAMED = 8
"""Slices that the error names; the log names all."""


class LossGuard:
    """Stop at a loss that is not finite, before it reaches the weights; skip batches without a valid anchor.

    A skipped batch leaves weights and optimizer as they are. Their number so far is the metric ``skipped_batches``.

    A GPU decides by itself: a fused optimizer's step changes nothing where the device has set ``found_inf``, as behind
    PyTorch's gradient scaler. The loss is looked at when the next step's has been asked for, and at the end of an
    epoch, before anything is saved, so that no step waits for the one before it to end.

    Args:
        late: look at the loss one step late; ``None``: on a GPU. An optimizer that is not fused is never late.

    Raises:
        InputError: during training, naming step and slices.
    """

    def __init__(self, late: bool | None = None) -> None:
        self.late = late
        self._check_last: Callable[[], None] = lambda: None
        self._skipped: Tensor | int = 0

    def attach(self, engine: Engine) -> None:
        """Watch one of MONAI's trainers. List it in front of what saves at the end of an epoch."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._check)
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._hold_still)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._settle)

    def _check(self, engine: Engine) -> None:
        loss: Tensor = engine.state.output["loss"].detach()
        check = _check_of(engine, loss)
        self._check_last()
        self._check_last = check
        late = loss.is_cuda if self.late is None else self.late
        if not (late and _is_fused(engine)):
            check()

    def _hold_still(self, engine: Engine) -> None:
        """Have the optimizer change nothing at a loss that is not finite or a batch without a valid anchor."""
        loss: Tensor = engine.state.output["loss"].detach()
        empty = (figures_of(engine.loss_function).get(DROPPED, torch.zeros_like(loss)) == 1).float()
        self._skipped = self._skipped + empty.long()
        if _is_fused(engine):
            engine.optimizer.found_inf = torch.maximum(empty, (~loss.isfinite()).float())
        elif empty:
            engine.optimizer.zero_grad(set_to_none=True)  # without gradients, a step changes nothing

    def _settle(self, engine: Engine) -> None:
        self._check_last()
        if skipped := int(self._skipped):
            engine.state.metrics["skipped_batches"] = engine.state.metrics.get("skipped_batches", 0) + skipped
        self._skipped = 0


def _is_fused(engine: Engine) -> bool:
    return all(group.get("fused") for group in engine.optimizer.param_groups)


def _check_of(engine: Engine, loss: Tensor) -> Callable[[], None]:
    """What waits for a step's loss, on its way from the device, and refuses one that is not finite."""
    step, epoch, batch = engine.state.iteration, engine.state.epoch, engine.state.batch
    ids: Sequence[str] = batch["id"]
    fetched = loss.to("cpu", non_blocking=True)
    there = torch.cuda.current_stream(loss.device).record_event() if loss.is_cuda else None

    def check() -> None:
        if there is not None:
            there.synchronize()
        if fetched.isfinite():
            return
        logger.error("the batch's slices: %s", ", ".join(ids))
        more = f" and {len(ids) - NAMED} more (see the log)" if len(ids) > NAMED else ""
        raise InputError(
            f"the loss is {fetched.item():g} at step {step} (epoch {epoch}), on the slices "
            f"{', '.join(ids[:NAMED])}{more}. Look at them, or lower learning_rate; the last checkpoint stands."
        )

    return check
