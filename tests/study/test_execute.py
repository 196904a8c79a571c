from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json, sha256_of, write_json
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.study.execute import cluster, execute, perform, threads
from ufc_monai.study.runs import CLUSTERS, FINE_TUNING, SELECTION, SHUFFLE, Run, read_plan, write_plan

NOTE = """
import json, os, pathlib, sys, time

place, words = pathlib.Path(sys.argv[5]).parent, [word for word in sys.argv[6:] if word != "--word"]

def note(status):
    (place / "models").mkdir(parents=True, exist_ok=True)
    (place / "models" / "checkpoint.pt").write_text("large")
    asked = json.loads(os.environ["UFC_ASKED"])
    content = {"status": status, "asked": asked, "seconds": 1.0, "results": {}}
    (place / "run.json.new").write_text(json.dumps(content))
    (place / "run.json.new").rename(place / "run.json")
"""
WRITER = """
with open("order.txt", "a") as order:
    order.write(f"{place.name} {' '.join(words)}".strip() + "\\n")
if "fail" in words and not pathlib.Path("mended").exists():
    print("working", file=sys.stderr)
    sys.exit("error: out of luck")
note("complete")
"""


def a_run(name: str, *needs: str, word: str = "") -> Run:
    command = ("python", "-m", "write", "run", "--config_file", "train.json", "--ckpt_dir", f"runs/{name}/models")
    return Run(name, CLUSTERS, ((*command, *(("--word", word) if word else ())),), needs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "write.py").write_text(NOTE + WRITER)
    (tmp_path / "train.json").touch()
    return tmp_path


def begin(folder: Path, *runs: Run) -> list[Run]:
    write_plan(folder, runs, {})
    return list(runs)


def execute_here(folder: Path, runs: Sequence[Run], devices: Sequence[str | None] = (None,)) -> dict[str, str]:
    with threads(folder, len(devices)) as submit:
        execute(folder, runs, submit, devices, lambda: write_plan(folder, runs, {}))
    return states_of(folder, runs)


def states_of(folder: Path, runs: Sequence[Run]) -> dict[str, str]:
    return {run.name: run.state(folder) for run in runs}


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().splitlines()


def test_every_run_once_behind_its_needs(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"), a_run("d", "b", "c"))
    execute_here(folder, runs, (None, None))
    done = order(folder)
    assert sorted(done) == ["a", "b", "c", "d"]
    assert done.index("a") < done.index("b") < done.index("d")
    assert done.index("c") < done.index("d")
    assert not list(folder.rglob("checkpoint.pt"))


def test_the_first_of_the_plan_goes_first(folder: Path) -> None:
    """A study that is stopped early has all of the first repeat, not the beginning of every one."""
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"), a_run("d", "c"))
    execute_here(folder, runs)
    assert order(folder) == ["a", "b", "c", "d"]


def test_what_is_complete_is_not_done_again_and_what_is_not_begins_anew(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b"))
    execute_here(folder, runs)
    (folder / "runs" / "b" / "run.json").write_text(json.dumps({"status": "started"}))
    assert execute_here(folder, runs) == {"a": "complete", "b": "complete"}
    assert order(folder) == ["a", "b", "b"]


def test_of_a_run_that_was_cut_off_the_commands_that_are_complete_stand(folder: Path) -> None:
    """A fine-tuning whose test was cut off is not trained again."""
    first, second = (a_run("a", word=word).commands[0] for word in ("train", "test"))
    script = (folder / "write.py").read_text()
    (folder / "write.py").write_text(script.replace('place / "run.json', 'place / words[0] / "run.json'))
    for name in ("train", "test"):
        (folder / "runs" / "a" / name).mkdir(parents=True)
    runs = begin(folder, Run("a", FINE_TUNING, (first, second)))
    assert execute_here(folder, runs) == {"a": "complete"}
    (folder / "runs" / "a" / "test" / "run.json").unlink()
    assert execute_here(folder, runs) == {"a": "complete"}
    assert order(folder) == ["a train", "a test", "a test"]


def reads(folder: Path, run: Run, file: Path, status: str) -> None:
    """Have the record of a run say that it was made from a file as it is now."""
    read = {"x": {"path": str(file), "sha256": sha256_of(file)}}
    content = {"status": status, "asked": run.steps[0].asked(folder, {}), "seconds": 1.0, "results": {}}
    write_json(folder / run.records[0], {**content, "inputs": read})


def test_what_was_made_from_an_input_that_is_another_now_is_made_anew(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c", "b"))
    execute_here(folder, runs)
    source, checkpoint = folder / "source", folder / "runs" / "b" / "models" / "checkpoint.pt"
    source.write_text("first")
    reads(folder, runs[1], source, "complete")
    execute_here(folder, runs)
    assert len(order(folder)) == 3
    source.write_text("another")
    assert states_of(folder, runs) == {"a": "complete", "b": "waiting", "c": "complete"}
    execute_here(folder, runs)
    assert len(order(folder)) == 4
    for content, resumed in (("another", True), ("a third", False)):  # a checkpoint was left behind
        source.write_text("another")
        reads(folder, runs[1], source, "started")
        checkpoint.touch()
        source.write_text(content)
        execute_here(folder, runs)
        assert order(folder)[-1].endswith("--resume True") == resumed


def test_what_needs_a_run_that_is_made_anew_is_looked_at_again(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"))
    execute_here(folder, runs)
    (folder / runs[0].records[0]).unlink()
    reads(folder, runs[1], folder / "order.txt", "complete")  # which ``a`` writes to
    execute_here(folder, runs)
    assert order(folder) == ["a", "b", "c", "a", "b"]


def test_a_run_that_two_workers_were_given_is_done_once(folder: Path) -> None:
    """As a scheduler does that has taken one of them for lost."""
    (run,) = begin(folder, a_run("a"))
    with ThreadPoolExecutor(2) as pool:
        assert [pool.submit(perform, folder, run).result() for _ in range(2)] == [None, None]
        assert list(pool.map(perform, [folder] * 4, [run] * 4)) == [None] * 4
    assert order(folder) == ["a"]


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
            assert {run.state(folder) for _ in range(5000)} == {"waiting"}
        finally:
            over.set()
        other.result()


def test_a_failed_run_is_marked_and_the_rest_goes_on(folder: Path) -> None:
    runs = begin(folder, a_run("a", word="fail"), a_run("b", "a"), a_run("c", "b"), a_run("d"))
    assert execute_here(folder, runs) == {"a": "failed", "b": "waiting", "c": "waiting", "d": "complete"}
    content = json.loads((folder / "study.json").read_text())
    assert [run["state"] for run in content["runs"]] == ["failed", "waiting", "waiting", "complete"]
    assert content["runs"][0]["error"] == "error: out of luck"
    assert "working" in (folder / "runs" / "a" / "log.txt").read_text()
    (folder / "mended").touch()
    assert set(execute_here(folder, runs).values()) == {"complete"}
    assert order(folder) == ["a fail", "d", "a fail", "b", "c"]
    assert json.loads((folder / "study.json").read_text())["runs"][0]["error"] is None


def test_jobs_are_spread_over_devices(folder: Path) -> None:
    runs = begin(folder, *(a_run(name) for name in "abcdef"))
    execute_here(folder, runs, ("cuda:0", "cuda:1"))
    assert {line[2:] for line in order(folder)} == {"--device cuda:0", "--device cuda:1"}


SLEEPER = """
if "slow" in words and not pathlib.Path("quick").exists():
    note("started")
    pathlib.Path("asleep").touch()
    time.sleep(100)
    (place / "left_behind.txt").touch()
"""
DRIVER = """
from pathlib import Path
from ufc_monai.study.execute import execute, threads
from ufc_monai.study.runs import read_plan
with threads(Path("."), 1) as submit:
    execute(Path("."), read_plan(Path("."))[0], submit, [None], lambda: None)
"""


@pytest.fixture
def asleep(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """A plan whose second run sleeps in its training until there is a file ``quick``."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (folder / "write.py").write_text(NOTE + SLEEPER + WRITER)
    return begin(folder, a_run("a"), a_run("b", "a", word="slow"), a_run("c", "b"))


def wait_for(path: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    while not path.exists():
        time.sleep(0.05)
        assert process is None or process.poll() is None


def has_gone_on(folder: Path) -> bool:
    """Whether each run was done once, the training from its checkpoint, and nothing beside it."""
    done = order(folder)
    resumed = [line.endswith("--resume True") for line in done]
    left = (folder / "runs" / "b" / "left_behind.txt").exists()
    return [line.split()[0] for line in done] == ["a", "b", "c"] and resumed == [False, True, False] and not left


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)], ids=lambda s: s.name
)
def test_goes_on_after_a_signal(folder: Path, asleep: list[Run], number: signal.Signals) -> None:
    """The training under way ends with the study's process, and is gone on with; what was complete stays."""
    words = [sys.executable, "-W", "ignore", "-c", DRIVER]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL) as study:
        wait_for(folder / "asleep", study)
        study.send_signal(number)
    assert [run.state(folder) for run in read_plan(folder)[0]] == ["complete", "waiting", "waiting"]
    (folder / "quick").touch()
    assert set(execute_here(folder, asleep).values()) == {"complete"}
    assert has_gone_on(folder)


def test_what_ends_the_driver_stops_what_is_under_way(folder: Path, asleep: list[Run]) -> None:
    with pytest.raises(KeyboardInterrupt), threads(folder, 1) as submit:
        future = submit(asleep[1], None, 0)
        wait_for(folder / "asleep")
        raise KeyboardInterrupt
    assert isinstance(future.exception(), KeyboardInterrupt)
    assert states_of(folder, asleep[1:2]) == {"b": "waiting"}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker(folder: Path, asleep: list[Run]) -> None:
    distributed = pytest.importorskip("distributed")
    workers = {"n_workers": 2, "processes": True, "threads_per_worker": 1, "resources": {"GPU": 1}}
    with (
        distributed.LocalCluster(dashboard_address=":0", **workers) as found,
        distributed.Client(found) as client,
        cluster(folder, found.scheduler_address, gpus=True) as submit,
        ThreadPoolExecutor(1) as pool,
    ):
        study = pool.submit(execute, folder, asleep, submit, [None] * 3, lambda: None)
        wait_for(folder / "asleep")
        (folder / "quick").touch()
        busy = [address for address, keys in client.processing().items() if keys]
        os.kill(client.run(os.getpid, workers=busy)[busy[0]], signal.SIGKILL)
        study.result()
    assert set(states_of(folder, asleep).values()) == {"complete"}
    assert has_gone_on(folder)


def test_runs_that_are_no_command_work_on_clusters(folder: Path) -> None:
    clusters = {f"{name}.nii.gz": [i % 3 for i in range(first, 30)] for name, first in (("a", 0), ("b", 10), ("c", 29))}
    (folder / "runs" / "clusters").mkdir(parents=True)
    PseudoLabels(clusters, 3, {"seed": 7}).save(folder / "runs" / "clusters" / "pseudo_labels.json")
    write_json(folder / "split.json", {"folds": [{"label_orders": [["c.nii.gz", "a.nii.gz"]]}]})
    needs = ("clusters",)
    dealt = [Run(f"dealt{i}", SHUFFLE, (), needs, seed=i % 2) for i in range(3)]
    chosen = Run("selection", SELECTION, (), needs)
    begin(folder, *dealt, chosen)
    assert [perform(folder, run) for run in (*dealt, chosen)] == [None] * 4
    found = [PseudoLabels.load(folder / run.folder / "pseudo_labels.json") for run in dealt]
    assert found[0].clusters == found[2].clusters != found[1].clusters
    for labels in found:
        assert {image: len(c) for image, c in labels.clusters.items()} == {
            image: len(c) for image, c in clusters.items()
        }
        assert sorted(chain(*labels.clusters.values())) == sorted(chain(*clusters.values()))
        assert labels.clusters != clusters
    assert found[1].provenance["shuffled_with_seed"] == 1
    assert read_json(folder / "runs" / "selection" / "selection.json", "x")["chosen"] == ["a.nii.gz", "c.nii.gz"]
    PseudoLabels(clusters, 3, {"seed": 8}).save(folder / "runs" / "clusters" / "pseudo_labels.json")
    assert set(states_of(folder, (*dealt, chosen)).values()) == {"waiting"}


def test_a_cluster_keeps_to_the_order_of_the_plan(folder: Path) -> None:
    distributed = pytest.importorskip("distributed")
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"), a_run("d"), a_run("e"))
    alone = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with (
        distributed.LocalCluster(**alone) as found,
        cluster(folder, found.scheduler_address, gpus=False) as submit,
    ):
        execute(folder, runs, submit, [None] * 5, lambda: None)
    done = order(folder)
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    assert done.index("b") < done.index("e")


def test_a_process_that_dies_with_its_run_fails_it(folder: Path) -> None:
    """Of a worker that is out of memory, say, again and again."""
    runs = begin(folder, a_run("a"), a_run("b", "a"), a_run("c"))

    def submit(run: Run, *_: object) -> Future[str | None]:
        future = Future[str | None]()
        if run.name == "a":
            future.set_exception(RuntimeError("3 workers have died"))
        else:
            future.set_result(perform(folder, run))
        return future

    execute(folder, runs, submit, [None] * 3, lambda: None)
    assert states_of(folder, runs) == {"a": "failed", "b": "waiting", "c": "complete"}
    assert runs[0].error == "RuntimeError: 3 workers have died"


def test_a_cluster_that_goes_away_fails_no_run(folder: Path) -> None:
    runs = begin(folder, a_run("a"))
    gone = Future[str | None]()
    gone.set_exception(CancelledError())
    with pytest.raises(InputError, match="the cluster is gone"):
        execute(folder, runs, lambda *_: gone, [None], lambda: None)
    assert states_of(folder, runs) == {"a": "waiting"}


def test_a_worker_that_does_not_see_the_study_says_so(tmp_path: Path) -> None:
    assert str(perform(tmp_path, a_run("a"))).endswith("every worker must see the study at the same path")
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_does_not_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("ufc_monai.study.execute.CONNECTING", 0.1)
    with pytest.raises(InputError, match=r"^--scheduler: no Dask scheduler answers at tcp://127\.0\.0\.1:9 \("):
        cluster(folder, "tcp://127.0.0.1:9", gpus=False).__enter__()


def test_without_dask_one_is_told_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r'^--scheduler: .* pip install "ufc-monai\[study\]"$'):
        cluster(folder, "tcp://127.0.0.1:9", gpus=False).__enter__()


def test_the_plan_on_disk_is_the_plan(folder: Path) -> None:
    runs = begin(folder, a_run("a"), a_run("b", "a"))
    write_plan(folder, runs, {"data_set": "x"})
    assert read_plan(folder) == (runs, {"data_set": "x"})
