"""When a training is validated."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler


class FinalValidationHandler(ValidationHandler):
    """MONAI's ``ValidationHandler``, which validates after the last epoch, too.

    With MONAI's own, 39 epochs and an interval of 4 leave the last three epochs unseen: those at the smallest learning
    rates, where weights are often best.

    Args:
        interval: epochs between two validations.
        validator: MONAI's evaluator, which validates.
    """

    def __init__(self, interval: int, validator: Evaluator) -> None:
        super().__init__(interval, validator)

    def attach(self, engine: Engine) -> None:
        """Validate a trainer."""

        def is_due(trainer: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == int(trainer.state.max_epochs)

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)
