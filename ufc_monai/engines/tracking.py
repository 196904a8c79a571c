"""What ``--tracking mlflow`` records beside the curves: settings as parameters, results, files as artifacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import MLFlowHandler

from ufc_monai.engines.record import RunRecord, is_number

__all__ = ["track"]

ARTIFACTS = {".csv", ".json", ".jsonl", ".png"}


def track(handlers: Iterable[object], record: RunRecord) -> None:
    """Complete the handlers that MONAI adds to a configuration at ``--tracking mlflow``; without them do nothing.

    MONAI's own settings log a loss from a list of decollated items, and every metric as a number; here batches stay
    whole, and some metrics are lists.

    Args:
        handlers: of the engines that are about to run; they share one run of the tracking store.
        record: of the run; when it finishes, its results and the files beside it are logged, too.
    """
    found = [_Tracked(handler, record) for handler in handlers if isinstance(handler, MLFlowHandler)]
    if found:
        record.followers += [found[0].finish, *(lambda *_, of=other.handler: of.close() for other in found[1:])]


class _Tracked:
    """One run in the tracking store."""

    def __init__(self, handler: MLFlowHandler, record: RunRecord) -> None:
        self.handler = handler
        self.run_id: str | None = None
        # a name of its own: MONAI goes on with an unfinished run of the same name
        handler.run_name = handler.run_name or f"{record.content['stage']} {record.content['started']}"
        handler.experiment_param = dict(record.content["settings"])
        handler.artifacts = ()
        handler.output_transform = lambda output: output["loss"]
        handler.epoch_logger = self._log_epoch

    def _log_epoch(self, engine: Engine) -> None:
        # the handler forgets its run when it closes it
        self.run_id = self.handler.cur_run.info.run_id
        self._log(engine.state.metrics, engine.state.epoch)

    def finish(self, folder: Path, results: Mapping[str, Any]) -> None:
        """Log what came out, and the files of the output folder."""
        if self.run_id is None:
            return
        self._log({f"final_{name}": value for name, value in results.items()}, 0)
        for path in sorted(folder.iterdir()):
            if path.suffix in ARTIFACTS:
                self.handler.client.log_artifact(self.run_id, str(path))
        self.handler.close()

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            if is_number(value):
                self.handler.client.log_metric(self.run_id, name, float(value), step=step)
