"""What ``--tracking mlflow`` records beside the curves: settings as parameters, origins as tags, results, files."""

from __future__ import annotations

import atexit
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler

from ufc_monai.artifacts.record import RunRecord, is_number
from ufc_monai.base.console import from_command_line

ARTIFACTS = {".csv", ".json", ".jsonl", ".png"}


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


class _Tracked:
    """One run in the tracking store."""

    def __init__(self, handler: MLFlowHandler, record: RunRecord) -> None:
        self.handler = handler
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
