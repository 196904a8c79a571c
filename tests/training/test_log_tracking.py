"""``--tracking mlflow`` and ``tensorboard``, in the bundles themselves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles, run_bundle

import ufc_monai
from ufc_monai.__main__ import main
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.training.log import _Client, signals_held

VAE, CONTRASTIVE, UNET = NAMES
# MLflow and what it stands on warn of themselves while they are imported
pytestmark = pytest.mark.filterwarnings("ignore")


def curve(path: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[name] for line in lines if name in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", [VAE, UNET])
def test_mlflow_has_parameters_curves_results_and_files(name: str, phantom: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    bundles = copy_bundles(tmp_path)
    run_bundle(bundles, name, "train", phantom, tracking="mlflow", **SMALL[name])
    folder = bundles / name / "eval" / "train"
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'monai_experiment'")
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.info.run_name.startswith(f"{name}/train 2")
    assert run.info.status == "FINISHED"
    assert run.data.tags["stage"] == f"{name}/train"
    assert run.data.tags["version_ufc-monai"] == ufc_monai.__version__
    assert run.data.tags["device"] == "cpu"
    record = json.loads((folder / "run.json").read_text())
    assert {key: str(value) for key, value in record["settings"].items()}.items() <= run.data.params.items()
    logged = [point.value for point in client.get_metric_history(run.info.run_id, "loss")]
    assert logged == pytest.approx(curve(folder / "metrics.jsonl", "loss"))
    assert len(logged) == record["settings"]["epochs"]
    assert run.data.metrics["final_loss"] == pytest.approx(record["results"]["loss"])
    if name == UNET:
        best = [point.value for point in client.get_metric_history(run.info.run_id, "val_mean_dice")]
        assert best == pytest.approx(curve(folder / "metrics.jsonl", "val_mean_dice"))
    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert files >= {"run.json", "metrics.jsonl"}
    assert any(file.startswith("config_") for file in files)


@pytest.mark.slow
def test_probe_is_tracked(chain: Path, phantom: Path, tmp_path: Path) -> None:
    """It has no engine that would call MONAI's handler."""
    mlflow = pytest.importorskip("mlflow")
    keys = {
        "tracking": "mlflow",
        "tracking_uri": f"sqlite:///{tmp_path / 'all.db'}",
        "output_dir": str(tmp_path / "out"),
    }
    run_bundle(chain, CONTRASTIVE, "probe", phantom, **keys)
    client = mlflow.MlflowClient(keys["tracking_uri"])
    (experiment,) = client.search_experiments(filter_string="name = 'monai_experiment'")
    (run,) = client.search_runs(experiment.experiment_id)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final_probe_auc"] == pytest.approx(record["results"]["probe_auc"])
    assert run.data.tags["split_sha256"] == record["inputs"]["split"]["sha256"]
    assert run.data.tags["model_sha256"] == record["inputs"]["model"]["sha256"]
    assert "max_epochs" not in run.data.params
    assert "probe.json" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_a_run_that_is_terminated_does_not_stay_running(phantom: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    bundles, store = copy_bundles(tmp_path), tmp_path / "all.db"
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--bundle_root", str(bundles / VAE)]
    words += ["--config_file", str(bundles / VAE / "configs" / "train.json"), "--dataset_dir", str(phantom)]
    words += ["--tracking", "mlflow", "--tracking_uri", f"sqlite:///{store}"]
    for key, value in (SMALL[VAE] | {"epochs": 100000}).items():
        words += [f"--{key}", str(value)]
    log = bundles / VAE / "eval" / "train" / "metrics.jsonl"
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
        while not (log.is_file() and log.read_text()):
            assert training.poll() is None
            time.sleep(0.1)
        training.terminate()
        assert training.wait(600) != 0
    client = mlflow.MlflowClient(f"sqlite:///{store}")
    (experiment,) = client.search_experiments(filter_string="name = 'monai_experiment'")
    (run,) = client.search_runs(experiment.experiment_id)
    assert run.info.status == "FAILED"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What runs tests side by side has them ignore SIGINT."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_a_run_interrupted_while_it_logs_can_still_be_marked(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    client: Any = _Client(mlflow.MlflowClient(f"sqlite:///{tmp_path / 'all.db'}"))
    experiment, draw = client.create_experiment("mine"), np.random.default_rng(0)
    usual = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for _ in range(40):
            run = client.create_run(experiment).info.run_id
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.001, 0.1))
                for step in range(1000):
                    client.log_metric(run, "loss", 1.0, step=step)
            client.set_terminated(run, "FAILED")
            assert client.get_run(run).info.status == "FAILED"
    finally:
        signal.signal(signal.SIGALRM, usual)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_waits_and_a_second_one_does_not() -> None:
    seen = list[str]()
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        seen.append("the block's end")
    assert seen == ["the block's end"]
    with pytest.raises(KeyboardInterrupt), signals_held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        seen.append("never")
    assert seen == ["the block's end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_evaluation_is_tracked(chain: Path, phantom: Path, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'all.db'}"
    bundles = tmp_path / "copy"
    shutil.copytree(chain, bundles, ignore=shutil.ignore_patterns("eval/evaluate"))
    keys = {"tracking": "mlflow", "tracking_uri": uri, "experiment_name": "mine"}
    run_bundle(bundles, UNET, "train+evaluate", phantom, output_dir=str(tmp_path / "out"), **keys)
    client = mlflow.MlflowClient(uri)
    (experiment,) = client.search_experiments(filter_string="name = 'mine'")
    (run,) = client.search_runs(experiment.experiment_id)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run.data.metrics["final_mean_dice"] == pytest.approx(record["results"]["mean_dice"])
    assert {"dice.csv", "overlays.png"} <= {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize(("name", "metric"), [(VAE, "explained"), (UNET, "val_mean_dice")])
def test_tensorboard_by_one_key(name: str, metric: str, phantom: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    bundles = copy_bundles(tmp_path)
    keys = SMALL[name] | ({"val_interval": 2} if name == UNET else {})
    run_bundle(bundles, name, "train", phantom, tensorboard="true", **keys)
    folder = bundles / name / "eval" / "train"
    assert len(list(folder.glob("events.out*"))) == 1
    events = EventAccumulator(str(folder))
    events.Reload()
    for scalar in ("loss", metric):
        logged = [event.value for event in events.Scalars(scalar)]
        assert logged == pytest.approx(curve(folder / "metrics.jsonl", scalar), rel=1e-6)
    assert events.Scalars(metric)[-1].step == 2


def test_nothing_is_tracked_unasked(chain: Path) -> None:
    assert not [p for p in chain.rglob("*") if p.name.startswith(("mlruns", "events.out"))]


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_run_keeps_all_stages_and_the_report_in_one_store(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    make_phantom(tmp_path / "data", patients=3, matrix=40)
    words = ["run", "--dataset_dir", str(tmp_path / "data"), "--folder", str(tmp_path / "mine"), "--preset", "cpu"]
    words += ["--threads", "1", "--n_clusters", "4", "--bundles", str(ROOT / "bundles"), "--tracking", "mlflow"]
    for bundle, overrides in SMALL.items():
        settings = {k: v for k, v in overrides.items() if k not in ("threads", "labelled_volumes")}
        words += [word for key, value in settings.items() for word in ("--set", f"{bundle}.{key}={value!r}")]
    assert main(words) == 0
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mine' / 'mlruns.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'mine'")
    runs = {run.info.run_name.split(" ")[0]: run for run in client.search_runs(experiment.experiment_id)}
    stages = {f"{VAE}/train", f"{VAE}/inference", f"{CONTRASTIVE}/train", f"{UNET}/train"}
    assert set(runs) == {*stages, "report"}
    assert all(run.info.status == "FINISHED" for run in runs.values())
    (report,) = client.list_artifacts(runs["report"].info.run_id)
    assert report.path == "report.html"
