"""One line an epoch on the console, with the time left, and everything in ``metrics.jsonl``."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from ignite.engine import Engine
from torch import Tensor

from ufc_monai.base.files import append_line, atomic_path
from ufc_monai.base.ranks import Reporter
from ufc_monai.losses.protocol import figures_of

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class MetricsLog(Reporter):
    """Write the metrics of every epoch, to the console and to ``metrics.jsonl``.

    The means of the loss and of each of its ``figures_of`` join ``engine.state.metrics``. The
    console shows numbers alone; lists and texts are for the file. List it behind the handlers that compute metrics.

    Args:
        output_dir: folder of ``metrics.jsonl``; an existing file is begun anew, or continued by a resumed training.
        evaluator: an evaluator whose metrics are logged in the epochs in which it ran.
    """

    output_dir: str | os.PathLike[str]
    evaluator: Engine | None = None

    def _started(self, engine: Engine) -> None:
        self.path = Path(self.output_dir) / "metrics.jsonl"
        self._keep(engine.state.epoch)

    def _keep(self, epochs: int) -> None:
        """Cut off what is behind some epochs: a training that resumes or begins anew comes to it again."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if epochs and self.path.is_file() else []
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines[:epochs]), encoding="utf-8")
        self._first = self._last = epochs
        self._began = monotonic()

    def _epoch_started(self, engine: Engine) -> None:
        self._sums: dict[str, Tensor] = {}
        self._epoch_began = monotonic()

    def _iteration_completed(self, engine: Engine) -> None:
        # they stay on the device: reading a number here would make every step wait for it
        values = {"loss": engine.state.output["loss"], **figures_of(engine.loss_function)}
        self._sums = {name: self._sums.get(name, 0) + value.detach() for name, value in values.items()}

    def _epoch_completed(self, engine: Engine) -> None:
        state, validated = engine.state, self.evaluator and self.evaluator.state
        state.metrics |= {name: float(total) / state.epoch_length for name, total in self._sums.items()}
        values = {"loss": state.metrics["loss"], **state.metrics}
        if validated and validated.epoch == state.epoch:
            values |= validated.metrics
        record = {"epoch": state.epoch, "iteration": state.iteration, **values}
        record["seconds"] = round(monotonic() - self._epoch_began, 3)
        if state.epoch <= self._last:
            self._keep(state.epoch - 1)
        append_line(self.path, json.dumps(record))
        self._last = state.epoch
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
