"""One line an epoch on the console, with the time left, and everything in ``metrics.jsonl``."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from time import monotonic
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from ufc_monai.base.files import append_line, atomic_path
from ufc_monai.base.ranks import Reporter
from ufc_monai.losses.protocol import figures_of

logger = logging.getLogger(__name__)


class MetricsLog(Reporter):
    """Write the metrics of every epoch, to the console and to ``metrics.jsonl``.

    The means of the loss and of each of its ``figures_of`` join ``engine.state.metrics``. The
    console shows numbers alone; lists and texts are for the file. List it behind the handlers that compute metrics.

    Args:
        output_dir: folder of ``metrics.jsonl``; a file that is there is begun anew, or gone on with
            where a training goes on.
        evaluator: an evaluator whose metrics are logged in the epochs in which it ran.
    """

    def __init__(self, output_dir: str | os.PathLike[str], evaluator: Engine | None = None) -> None:
        self.path = Path(output_dir) / "metrics.jsonl"
        self.evaluator = evaluator
        self._sums: dict[str, Tensor] = {}
        self._first = 0
        self._began = 0.0
        self._started = 0.0
        self._validation: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Log a trainer."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated)

    def _begin(self, engine: Engine) -> None:
        self._first = engine.state.epoch
        lines = self.path.read_text(encoding="utf-8").splitlines() if self._first and self.path.is_file() else []
        with atomic_path(self.path) as temporary:
            # behind the checkpoint that a training goes on from, lines are of epochs that come again
            temporary.write_text("".join(f"{line}\n" for line in lines[: self._first]), encoding="utf-8")
        self._began = monotonic()

    def _reset(self, engine: Engine) -> None:
        self._sums, self._started, self._validation = {}, monotonic(), {}

    def _add(self, engine: Engine) -> None:
        # they stay on the device: reading a number here would make every step wait for it
        values = {"loss": engine.state.output["loss"], **figures_of(engine.loss_function)}
        self._sums = {name: self._sums.get(name, 0) + value.detach() for name, value in values.items()}

    def _validated(self, evaluator: Engine) -> None:
        self._validation = dict(evaluator.state.metrics)

    def _write(self, engine: Engine) -> None:
        state = engine.state
        state.metrics |= {name: float(total) / state.epoch_length for name, total in self._sums.items()}
        values = {"loss": state.metrics["loss"], **state.metrics, **self._validation}
        record = {"epoch": state.epoch, "iteration": state.iteration, **values}
        record["seconds"] = round(monotonic() - self._started, 3)
        append_line(self.path, json.dumps(record))
        shown = " | ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, int | float))
        line = f"epoch {state.epoch}/{state.max_epochs} | {shown} | {record['seconds']:.1f} s"
        to_come = state.max_epochs - state.epoch
        if to_come:  # by the mean of all epochs: only some of them validate
            line += f" | {duration((monotonic() - self._began) / (state.epoch - self._first) * to_come)} left"
        logger.info(line)


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it.

    Example:
        >>> duration(48.2), duration(1000), duration(10000), duration(400000)
        ('48 s', '17 min', '2.8 h', '4.6 days')
    """
    for unit, length, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
