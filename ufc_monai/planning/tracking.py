"""``run --tracking mlflow``: all stages and the report in one local store."""

from __future__ import annotations

import importlib
from pathlib import Path
from urllib.parse import quote

from ufc_monai.base.files import inert


def tracking_keys(folder: Path) -> dict[str, str]:
    """The keys with which MONAI tracks a stage in the run's folder."""
    where, name = _store(folder)
    return {"tracking": "mlflow", "tracking_uri": where, "experiment_name": name}


def track_report(folder: Path, report: Path) -> None:
    """Log the report as its own run beside those of the stages.

    Args:
        folder: of the run.
        report: the HTML file.
    """
    where, name = _store(folder)
    client = importlib.import_module("mlflow").MlflowClient(where)
    experiment = client.get_experiment_by_name(name)
    place = folder.resolve() / "mlruns"
    number = experiment.experiment_id if experiment else client.create_experiment(name, place.as_uri())
    run = client.create_run(number, run_name="report").info.run_id
    client.log_artifact(run, str(report))
    client.set_terminated(run)


def _store(folder: Path) -> tuple[str, str]:
    """Where the store is, and the name of the experiment in it."""
    place = (folder.resolve() / "mlruns.db").as_posix()
    return f"sqlite:///{quote(place, safe='/:')}", str(inert(folder.resolve().name, "--folder"))
