"""The command, through the stages' own commands, on the phantom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import NAMES, ROOT, SMALL

from ufc_monai.__main__ import main
from ufc_monai.base import machine
from ufc_monai.base.files import write_json
from ufc_monai.base.lock import at_work
from ufc_monai.base.machine import Limit
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.study import command
from ufc_monai.study.runs import Run, read_plan

VAE, CONTRASTIVE, UNET = NAMES
PROTOCOL = ["--methods", "random,simclr", "--budgets", "1,2", "--folds", "2", "--seeds", "1", "--init_seeds", "1"]

ONE_RUN = ["--methods", "random", "--budgets", "1", "--folds", "1", "--seeds", "1", "--init_seeds", "1"]


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    words = ["study", "--dataset_dir", str(data), "--folder", str(folder), "--preset", "cpu", "--threads", "1"]
    for bundle, small in SMALL.items():
        kept = {key: value for key, value in small.items() if key not in ("threads", "labelled_volumes", "epochs")}
        for key, value in {**kept, "epochs": 1}.items():
            words += ["--set", f"{bundle}.{key}={value!r}"]
    return [*words, "--bundles", str(ROOT / "bundles"), *more]


def start(words: list[str], python: str = sys.executable) -> subprocess.Popen[bytes]:
    return subprocess.Popen([python, "-W", "ignore", "-m", "ufc_monai", *words], cwd=ROOT)


def states(folder: Path) -> list[str]:
    path = folder / "study.json"
    return [run["state"] for run in json.loads(path.read_text())["runs"]] if path.is_file() else []


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a study that has been planned, and of which nothing runs."""
    monkeypatch.setattr(command, "execute", lambda *_: None)
    monkeypatch.setattr(command, "write_study_report", lambda *_: None)
    make_phantom(tmp_path / "data", patients=8, matrix=40)
    words = arguments(tmp_path / "data", tmp_path / "study", *PROTOCOL)
    assert main(words) == 0
    return words


def test_nothing_is_written_by_a_dry_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_phantom(tmp_path / "data", patients=8, matrix=40)
    folder = tmp_path / "study"
    with caplog.at_level("INFO"):
        assert main(arguments(tmp_path / "data", folder, *PROTOCOL, "--dry_run")) == 0
    assert "12 runs: about" in caplog.text
    assert not folder.exists()


def test_a_dry_run_shows_what_is_left(
    planned: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "study"
    done = next(run for run in read_plan(folder)[0] if run.name == "fold0/random/n1_draw0_init0")
    for step in done.steps:
        write_json(folder / step.record, {"status": "complete", "asked": step.asked(folder, {})})
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")}
    caplog.clear()
    with caplog.at_level("INFO"):
        assert main([*planned, "--dry_run"]) == 0
        assert "11 of 12 runs are left" in caplog.text
        assert caplog.text.index("11 of 12") < caplog.text.index("fold0/random/n2_draw0_init0: "), "the table first"
        assert "fold0/random/n2_draw0_init0: " in caplog.text
        assert "fold0/random/n1_draw0_init0: " not in caplog.text
        assert main([*planned, "--methods", "random,simclr,moco", "--dry_run"]) == 0
    assert "19 of 20 runs are left" in caplog.text
    with monkeypatch.context() as context:  # before the stages are timed
        context.setattr(command, "look_at_data", lambda *_: pytest.fail("has to be refused before"))
        assert main([*planned, "--window", "[0,400]", "--set", f"{UNET}.flip=0.5", "--dry_run"]) == 1
    said = "(then / now): flip default / 0.5, window default / [0, 400]. Put"
    assert f"holds a study with other options {said}" in capsys.readouterr().err
    assert main([*planned, "--budgets", "2", "--dry_run"]) == 1
    assert "(then / now): fold0/random/n1_draw0_init0 there / left out." in capsys.readouterr().err
    label = next((tmp_path / "data").glob("*_label.nii.gz"))
    label.write_bytes(label.read_bytes()[:-1] + b"x")
    assert main([*planned, "--dry_run"]) == 1
    assert "(then / now): the content of the labels." in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("*")} == files


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_phantom(tmp_path / "data", patients=3, matrix=40)
    assert main(arguments(tmp_path / "data", tmp_path / "study", *PROTOCOL, "--dry_run")) == 1
    assert capsys.readouterr().err.startswith("error: not measurable with 3 labelled volumes")


def test_a_study_that_goes_on_needs_its_memory_again(
    planned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = json.loads((tmp_path / "study" / "study.json").read_text())["memory_bytes"]
    assert needed > 5e8
    monkeypatch.setattr(machine, "memory_limits", lambda: [Limit(2 * needed, "this machine")])
    assert main([*planned, "--jobs", "2"]) == 0
    assert main([*planned, "--jobs", "3"]) == 1
    assert capsys.readouterr().err.startswith("error: memory: 3 jobs need")


def test_failed_runs_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(folder: Path, runs: Sequence[Run], *_: object) -> None:
        for run in runs[:2]:
            run.error = "out of luck"

    monkeypatch.setattr(command, "execute", fail)
    make_phantom(tmp_path / "data", patients=8, matrix=40)
    assert main(arguments(tmp_path / "data", tmp_path / "study", *PROTOCOL)) == 1
    assert "error: 2 of 12 runs failed, see above." in capsys.readouterr().err


def test_a_run_and_a_study_do_not_share_a_folder(
    planned: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(planned[planned.index("--folder") + 1])
    (folder / "run.lock").touch()
    assert main(planned) == 1
    assert f"--folder: {folder} holds a run. Name another for the study." in capsys.readouterr().err
    (folder / "run.lock").rename(folder / "study.lock")
    data = planned[planned.index("--dataset_dir") + 1]
    assert main(["run", "--dataset_dir", data, "--folder", str(folder), "--labels", "{'heart': 1}"]) == 1
    assert f"--folder: {folder} holds a study. Name another for the run." in capsys.readouterr().err


def test_a_preset_that_is_none_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_phantom(tmp_path / "data", patients=4, matrix=40)
    with pytest.raises(SystemExit):
        main(arguments(tmp_path / "data", tmp_path / "study", *PROTOCOL, "--preset", "tiny"))
    assert "--preset: invalid choice: 'tiny' (choose from" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_a_bad_volume_is_left_out_of_every_run(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "study"
    make_phantom(data, patients=8, matrix=40)
    bad = data / "ct_train_1001_image.nii.gz"
    bad.write_bytes(bad.read_bytes()[:200])
    assert main(arguments(data, folder, *ONE_RUN, "--skip_bad", "True")) == 0
    records = [json.loads(path.read_text()) for path in folder.glob("runs/**/run.json")]
    assert len(records) == 2
    assert [[Path(name).name for name in record["skipped"]] for record in records] == [[bad.name], [bad.name]]


SMALLEST = ["--methods", "random,simclr", *ONE_RUN[2:]]
"""Two fine-tunings, a pretraining and its probe."""


@pytest.fixture(scope="module")
def whole(phantom: Path, warm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    with start(arguments(phantom, folder, *SMALLEST, "--jobs", "2"), str(warm_python)) as study:
        assert study.wait() == 0
    return folder


def assert_same_tables(folder: Path, whole: Path) -> None:
    assert states(folder) == ["complete"] * 4
    for name in ("study.csv", "study.md"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_table(
    phantom: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    killed = tmp_path / "killed"
    with start(arguments(phantom, killed, *SMALLEST, "--jobs", "2")) as study:
        while states(killed).count("complete") < 1:
            time.sleep(0.05)
            assert study.poll() is None
        study.send_signal(signal.SIGKILL)
    assert "waiting" in states(killed)
    with start(arguments(phantom, killed, *SMALLEST, "--jobs", "2")) as study:
        assert study.wait() == 0
    assert_same_tables(killed, whole)
    times = {path: os.stat(path).st_mtime_ns for path in killed.rglob("run.json")}
    assert len(times) == 6
    (killed / "study.md").unlink()
    with caplog.at_level("INFO"):
        assert main(arguments(phantom, killed, *SMALLEST, "--jobs", "2")) == 0
    assert "all 4 runs are complete" in caplog.text
    assert_same_tables(killed, whole)
    assert {path: os.stat(path).st_mtime_ns for path in killed.rglob("run.json")} == times
    assert main(arguments(phantom, killed, *SMALLEST, "--window", "[0,400]")) == 1
    message = capsys.readouterr().err
    assert "holds a study with other options (then / now): window default / [0, 400]" in message
    assert len(message.splitlines()) == 1


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_same_table(phantom: Path, whole: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    workers = {"n_workers": 2, "processes": True, "threads_per_worker": 1}
    with (
        distributed.LocalCluster(dashboard_address=":0", **workers) as found,
        start(arguments(phantom, tmp_path, *SMALLEST, "--scheduler", found.scheduler_address)) as study,
    ):
        while not (records := list(tmp_path.glob("runs/**/train/run.json"))):
            time.sleep(0.05)
            assert study.poll() is None
        place = records[0].parents[1]
        worker, *_ = place.with_name(f".{place.name}.lock").read_text().splitlines()  # and the stage behind it
        os.kill(json.loads(worker)["process"], signal.SIGKILL)
        assert study.wait() == 0
    assert_same_tables(tmp_path, whole)


def test_a_cluster_decides_where_runs_go(planned: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more, words in (
        (["--jobs", "2"], "leave out --jobs and --devices"),
        (["--devices", "cpu"], "leave out --jobs and --devices"),
        (["--preset", "auto"], "--preset: name it"),
    ):
        assert main([*planned, "--scheduler", "tcp://127.0.0.1:9", *more]) == 1
        assert words in capsys.readouterr().err


def test_a_cluster_has_to_answer_before_the_stages_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ufc_monai.study.execute.CONNECTING", 0.1)
    monkeypatch.setattr(command, "look_at_data", lambda *_: pytest.fail("has to be refused before"))
    make_phantom(tmp_path / "data", patients=8, matrix=40)
    words = arguments(tmp_path / "data", tmp_path / "study", *PROTOCOL, "--scheduler", "tcp://127.0.0.1:9")
    assert main(words) == 1
    assert "--scheduler: no Dask scheduler answers" in capsys.readouterr().err


def test_two_studies_in_one_folder_are_refused(
    planned: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_work(tmp_path / "study" / "study.lock"):
        assert main([*planned, "--dry_run"]) == 0
        assert main(planned) == 1
    assert f"error: --folder: {tmp_path / 'study'} is in use (process {os.getpid()} on " in capsys.readouterr().err
