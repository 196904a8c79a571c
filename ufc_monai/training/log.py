"""One line an epoch on the console, everything in ``metrics.jsonl``, and what ``--tracking mlflow`` records."""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler
from torch import Tensor

from ufc_monai.artifacts.record import RunRecord, is_number
from ufc_monai.base.errors import from_command_line
from ufc_monai.base.files import append_line, atomic_path
from ufc_monai.base.ranks import Reporter
from ufc_monai.losses.protocol import figures_of

logger = logging.getLogger(__name__)

ARTIFACTS = {".csv", ".json", ".jsonl", ".png"}
RECENT = 20
"""Epochs by whose mean the time left is told: after a busy hour that of all of them would hardly move."""


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
        self._last = epochs
        self._ends = deque([monotonic()], maxlen=RECENT + 1)

    def _epoch_started(self, engine: Engine) -> None:
        self._sums: dict[str, Tensor] = {}
        self._epoch_began = monotonic()

    def _iteration_completed(self, engine: Engine) -> None:
        # they stay on the device: reading a number here would make every step wait for it
        values = {"loss": engine.state.output["loss"], **figures_of(engine.loss_function)}
        self._sums = {name: self._sums.get(name, 0) + value.detach() for name, value in values.items()}

    def _epoch_completed(self, engine: Engine) -> None:
        state, validated = engine.state, self.evaluator and self.evaluator.state
        means = {name: total.cpu().double() / state.epoch_length for name, total in self._sums.items()}
        state.metrics |= {name: mean.tolist() for name, mean in means.items()}
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
        self._ends.append(monotonic())
        if to_come:  # by the mean of several: only some of them validate, and a machine may be busy for a while
            line += f" | {duration((self._ends[-1] - self._ends[0]) / (len(self._ends) - 1) * to_come)} left"
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


def track(handlers: Iterable[object], record: RunRecord) -> None:
    """Complete the handlers that MONAI adds to a configuration at ``--tracking mlflow``; without them do nothing.

    MONAI's own settings log a loss from a list of decollated items, and every metric as a number; here batches stay
    whole, and some metrics are lists.

    Args:
        handlers: of the engines that are about to run; they share one run of the tracking store. Those of a
            configuration without engines log what comes out of it.
        record: of the run; when it finishes, its results and the files beside it are logged, too. A run that does not
            finish is marked as failed, unless its process is killed outright.
    """
    found = [_Tracked(handler, record) for handler in handlers if isinstance(handler, MLFlowHandler)]
    if not found:
        return
    record.followers += [found[0].finish, *(lambda *_, of=other.handler: of.close() for other in found[1:])]
    atexit.register(found[0].give_up)
    if from_command_line() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # else nothing is done at exit


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block ends, and let a second one through, for the block may hang."""
    main = threading.current_thread() is threading.main_thread()
    both = (signal.SIGTERM, signal.SIGINT) if main else ()  # set back in this order, the one that interrupts last
    usual = {number: handler for number in both if (handler := signal.getsignal(number)) is not None}
    came: list[int] = []

    def set_back() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def hold(number: int, _: object) -> None:
        came.append(number)
        set_back()

    try:
        for number in usual:
            signal.signal(number, hold)
        yield
    finally:
        set_back()
        for held in came:
            signal.raise_signal(held)


class _Client:
    """A tracking client whose calls are not broken off: a write that is leaves SQLite's lock behind, for us as well."""

    def __init__(self, client: object) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        return signals_held()(found) if callable(found) else found


class _Tracked:
    """One run in the tracking store."""

    def __init__(self, handler: MLFlowHandler, record: RunRecord) -> None:
        self.handler = handler
        if str(handler.client.tracking_uri).startswith("sqlite:"):  # a server may not answer for long
            handler.client = _Client(handler.client)
        self.run_id: str | None = None
        self.tags = _tags(record.content)
        # a name of its own: MONAI goes on with an unfinished run of the same name
        handler.run_name = handler.run_name or f"{record.content['stage']} {record.content['started']}"
        handler.experiment_param = dict(record.content["settings"])
        handler.artifacts = ()
        handler.output_transform = lambda output: output["loss"]
        handler.epoch_logger = lambda engine: self._log(engine.state.metrics, engine.state.epoch)
        handler.dataset_logger = self._begin  # called when the run has begun

    def _begin(self, *_: object) -> None:
        if self.run_id is None:
            # the handler forgets its run when it closes it
            self.run_id = self.handler.cur_run.info.run_id
            for name, value in self.tags.items():
                self.handler.client.set_tag(self.run_id, name, value)

    def finish(self, folder: Path, results: Mapping[str, Any]) -> None:
        """Log what came out, and the files of the output folder."""
        if self.run_id is None:  # no engine has begun it
            self.handler.default_tracking_params = []
            self.handler.start(Engine(lambda *_: None))
        self._log({f"final_{name}": value for name, value in results.items()}, 0)
        for path in sorted(folder.iterdir()):
            if path.suffix in ARTIFACTS:
                self.handler.client.log_artifact(self.run_id, str(path))
        self.handler.close()

    def give_up(self) -> None:
        """Mark a run as failed that has not finished; one that resumes it goes on with it."""
        if self.handler.cur_run is not None:
            self.handler.client.set_terminated(self.run_id, "FAILED")

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if is_number(value):
                self.handler.client.log_metric(self.run_id, name, float(value), step=step)


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    """What a run is of: its stage, the versions, where it computes, and the files that it was made from."""
    files = {name: file for name, file in record["inputs"].items() if file}
    return {
        "stage": record["stage"],
        **{f"version_{name}": str(version) for name, version in record["versions"].items()},
        **record["environment"],
        **{f"{name}_{what}": file[what] for name, file in files.items() for what in ("path", "sha256")},
    }
