from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.files import write_json
from ufc_monai.lock import _marked
from ufc_monai.study import execute as module
from ufc_monai.study.execute import execute
from ufc_monai.study.runs import Run
from ufc_monai.study.state import failure_of, lock_of, read_plan, state_of, write_plan

WRITER = """
import json, pathlib, sys
place, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
with open("order.txt", "a") as order:
    order.write(f"{place.name} {' '.join(words)}".strip() + "\\n")
if "fail" in words and not pathlib.Path("mended").exists():
    print("working", file=sys.stderr)
    sys.exit("error: out of luck")
(place / "models").mkdir(parents=True, exist_ok=True)
(place / "models" / "checkpoint.pt").write_text("large")
(place / "run.json.new").write_text(json.dumps({"status": "complete", "seconds": 1.0}))
(place / "run.json.new").rename(place / "run.json")
"""


def a_run(name: str, *needs: str, words: tuple[str, ...] = ()) -> Run:
    return Run(
        name, "pretraining", (("python", "write.py", f"runs/{name}", *words),), (f"runs/{name}/run.json",), needs
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "write.py").write_text(WRITER)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    return tmp_path


def begin(folder: Path, *runs: Run) -> list[Run]:
    write_plan(folder, runs, {})
    return list(runs)


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().splitlines()


def test_every_run_once_behind_its_needs(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"), a_run("d", "b", "c"))
    with ThreadPoolExecutor(2) as pool:  # two processes' worth of workers on one folder
        for crew in [pool.submit(execute, folder, runs, jobs=2) for _ in range(2)]:
            crew.result()
    done = order(folder)
    assert sorted(done) == ["a", "b", "c", "d"]
    assert done.index("a") < done.index("b") < done.index("d")
    assert done.index("c") < done.index("d")
    assert not list(folder.rglob("*.lock"))
    assert not list(folder.rglob("checkpoint.pt"))


def test_what_is_complete_is_not_done_again_and_what_is_not_begins_anew(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b"))
    execute(folder, runs)
    (folder / "runs" / "b" / "run.json").write_text(json.dumps({"status": "started"}))
    (folder / "runs" / "b" / "half.txt").write_text("")
    assert execute(folder, runs) == {"a": "complete", "b": "complete"}
    assert order(folder) == ["a", "b", "b"]
    assert not (folder / "runs" / "b" / "half.txt").exists()


def test_a_record_may_go_while_it_is_looked_at(folder: Path) -> None:
    """A worker looks at all runs while another one, which begins a run anew, takes its old record away."""
    run = a_run("a")
    record, over = folder / run.records[0], threading.Event()
    record.parent.mkdir(parents=True)

    def come_and_go() -> None:
        while not over.is_set():
            write_json(record, {"status": "started"})
            record.unlink()

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(come_and_go)
        try:
            assert {state_of(folder, run) for _ in range(5000)} == {"waiting"}
        finally:
            over.set()
        other.result()


def test_a_failed_run_is_marked_and_the_rest_goes_on(folder: Path) -> None:
    runs = begin(folder, a_run("a", words=("fail",)), a_run("b", "a"), a_run("c", "b"), a_run("d"))
    assert execute(folder, runs) == {"a": "failed", "b": "waiting", "c": "waiting", "d": "complete"}
    content = json.loads((folder / "study.json").read_text())
    assert [run["state"] for run in content["runs"]] == ["failed", "waiting", "waiting", "complete"]
    assert content["runs"][0]["error"] == "error: out of luck"
    assert "working" in (folder / "runs" / "a" / "log.txt").read_text()
    (folder / "mended").touch()
    assert set(execute(folder, runs).values()) == {"complete"}
    assert order(folder) == ["a fail", "d", "a fail", "b", "c"]
    assert not failure_of(folder, runs[0]).exists()


def test_what_another_process_does_is_left_to_it(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b"))
    other = lock_of(folder, runs[0])
    assert other.acquire()
    assert execute(folder, runs) == {"a": "running", "b": "complete"}
    other.release()
    assert state_of(folder, runs[0]) == "waiting"


def test_jobs_are_spread_over_devices(folder: Path) -> None:
    runs = begin(folder, *(a_run(name) for name in "abcdef"))
    execute(folder, runs, jobs=2, devices=("cuda:0", "cuda:1"))
    assert {line[2:] for line in order(folder)} == {"--device cuda:0", "--device cuda:1"}


SLEEPER = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
if "slow" in sys.argv and not pathlib.Path("quick").exists():
    (place / "models").mkdir(parents=True)
    (place / "models" / "checkpoint.pt").touch()
    pathlib.Path("asleep").touch()
    time.sleep(100)
    (place / "left_behind.txt").touch()
"""
DRIVER = """
import pathlib
from ufc_monai.study.execute import execute
from ufc_monai.study.state import read_plan
execute(pathlib.Path("."), read_plan(pathlib.Path("."))[0])
"""


def test_goes_on_after_sigkill(folder: Path) -> None:
    """The training that the dead process has left behind is ended and gone on with; what was complete stays."""
    (folder / "write.py").write_text(SLEEPER + WRITER)
    training = ("slow", "monai.bundle", "--config_file", "runs/b/train.json")
    runs = begin(folder, a_run("a"), a_run("b", "a", words=training), a_run("c", "b"))
    words = [sys.executable, "-W", "ignore", "-c", DRIVER]
    with subprocess.Popen(words, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}) as study:
        while not (folder / "asleep").exists():
            time.sleep(0.05)
            assert study.poll() is None
        study.send_signal(signal.SIGKILL)
    assert state_of(folder, runs[1]) == "waiting"
    token = json.loads((folder / "runs" / "b.lock").read_text())["token"]
    assert len(_marked(token)) == 1
    (folder / "quick").touch()
    assert set(execute(folder, runs).values()) == {"complete"}
    assert [line.split()[0] for line in order(folder)] == ["a", "b", "c"]
    assert [line.endswith("--resume True") for line in order(folder)] == [False, True, False]
    assert not _marked(token)
    assert not (folder / "runs" / "b" / "left_behind.txt").exists()


def test_who_was_silent_for_too_long_leaves_the_run_to_his_heir(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "write.py").write_text(SLEEPER)
    monkeypatch.setattr(module, "REFRESH", 0.05)
    (run,) = runs = begin(folder, a_run("a", words=("slow",)))
    with ThreadPoolExecutor(1) as pool:
        study = pool.submit(execute, folder, runs)
        while not (folder / "asleep").exists():
            time.sleep(0.01)
        heir = lock_of(folder, run)
        os.replace(heir._written(), heir.path)
        assert study.result() == {"a": "running"}
    assert not failure_of(folder, run).exists()
    assert heir.is_held()


def test_the_plan_on_disk_is_the_plan(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"))
    write_plan(folder, runs, {"data_set": "x"})
    assert read_plan(folder) == (runs, {"data_set": "x"})
