"""Stages that are forked from one process behave as programs of their own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL, copy_bundles
from test_lock import is_alive, until

from ufc_monai.base import host
from ufc_monai.base.files import sha256_of
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work

COUNTING = "open('imports', 'a').write('once\\n')"
STAGE = """
import os, sys
print(sys.argv[1:], os.environ.pop("ONE", None), os.environ.get("LEFT"), os.getpid() == os.getpgrp(), flush=True)
os.environ["LEFT"] = "by the one before"
sys.exit(int(sys.argv[1]))
"""
ALONE = "import os, time; open('begun', 'w').write(str(os.getpid())); os.kill(os.getppid(), 9); time.sleep(600)"
ONE_EACH = "import ufc_monai.base.host as host; host.FORKS = False; host.serve()"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pack").mkdir()
    modules = {"__init__": COUNTING, "stage": STAGE, "ended": "import os; os.kill(os.getpid(), 15)"}
    for name, code in modules.items():
        (tmp_path / "pack" / f"{name}.py").write_text(code)
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[Host]:
    with at_work(folder / "run.lock") as lock, Host(folder, lock, folder / "log.txt", aloud=False) as one:
        yield one


@pytest.mark.parametrize("forks", [pytest.param(True, marks=pytest.mark.skipif(not host.FORKS, reason="")), False])
def test_each_stage_is_as_if_it_were_alone(
    folder: Path, started: Host, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not forks:
        monkeypatch.setattr(host, "START", ONE_EACH)
        monkeypatch.setattr(host, "FORKS", False)
    codes = []
    for words, variables in (
        (["stage", "3", "a b"], {"ONE": "1"}),
        (["stage", "0"], {}),
        (["ended"], {}),
        (["no"], {}),
    ):
        started.start([f"pack.{words[0]}", *words[1:]], variables)
        codes.append(started.wait(60))
    assert codes == [3, 0, -signal.SIGTERM, 1]
    said = (folder / "log.txt").read_text()
    assert said.startswith("['3', 'a b'] 1 None True\n['0'] None None True\nTraceback")
    assert said.endswith("No module named pack.no\n")
    assert len((folder / "imports").read_text().split()) == (1 if forks else len(codes))
    entries = [json.loads(line)["command"] for line in (folder / "run.lock").read_text().splitlines()]
    assert entries[1] == "python -m pack.stage 3 'a b'"
    assert len(entries) == 1 + len(codes)


@pytest.mark.skipif(not host.FORKS, reason="each stage is its own host")
def test_a_stage_ends_with_its_host_and_another_host_goes_on(folder: Path, started: Host) -> None:
    (folder / "pack" / "alone.py").write_text(ALONE)
    started.start(["pack.alone"])
    assert started.wait(60) == -signal.SIGKILL
    stage = int((folder / "begun").read_text())
    until(lambda: not is_alive(stage))
    started.start(["pack.stage", "0"])
    assert started.wait(60) == 0


def test_an_end_that_is_interrupted_is_an_end(started: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(program: subprocess.Popen[bytes], ended: Callable[..., int] = subprocess.Popen.wait) -> int:
        ended(program)
        raise KeyboardInterrupt

    started.start(["pack.stage", "0"])
    assert started.wait(60) == 0
    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), started:
        started.end(signal.SIGINT)


def test_a_stage_fails_where_the_ends_of_children_are_ignored(started: Host) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    started.start(["pack.stage", "3"])
    signal.signal(signal.SIGCHLD, before)
    assert started.wait(60) == 3


def test_many_files_may_be_open(started: Host) -> None:
    with contextlib.ExitStack() as stack:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, limits[1]))
        for _ in range(1024):
            stack.callback(os.close, os.dup(0))
        started.start(["pack.stage", "3"])
        assert started.wait(60) == 3


@pytest.mark.skipif(not host.FORKS, reason="each stage is its own host")
def test_a_host_that_ends_without_a_stage_is_no_success(folder: Path, started: Host) -> None:
    (folder / "pack" / "__init__.py").write_text("import os; os._exit(0)")
    started.start(["pack.stage", "0"])
    assert started.wait(60) == 1


def test_threads_that_wait_do_not_spin(folder: Path, started: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "policy.py").write_text("import os; print(os.environ['OMP_WAIT_POLICY'])")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    started.start(["policy"])
    assert started.wait(60) == 0
    assert (folder / "log.txt").read_text() == "PASSIVE\n"


@pytest.mark.parametrize(("given", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_nor_do_those_of_a_command(given: dict[str, str], found: str) -> None:
    code = "import atexit, os, runpy; atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY'])); "
    code += "runpy.run_module('ufc_monai', run_name='__main__', alter_sys=True)"
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"} | given
    words = [sys.executable, "-c", code, "--version"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split()[-1] == found


@pytest.mark.slow
def test_training_in_one_process_and_by_hand_leaves_the_same_bits(phantom: Path, tmp_path: Path, started: Host) -> None:
    vae = "ufc_feature_vae"
    root = copy_bundles(tmp_path / "bundles") / vae
    keys = {**SMALL[vae], "bundle_root": root, "dataset_dir": phantom, "config_file": root / "configs" / "train.json"}
    found = []
    for name in ("first", "second", "by_hand"):
        places = {"ckpt_dir": tmp_path / name, "output_dir": tmp_path / name}
        words = ["monai.bundle", "run", *(w for k, v in (keys | places).items() for w in (f"--{k}", str(v)))]
        if name == "by_hand":
            subprocess.run([sys.executable, "-m", *words], check=True)
        else:
            started.start(words)
            assert started.wait(600) == 0
        found.append(sha256_of(tmp_path / name / "model.pt"))
    assert found[0] == found[1] == found[2]


ASKED = """
import os
import torch
asked = []
for name in ("is_available", "device_count", "init", "_lazy_init"):
    setattr(torch.cuda, name, lambda *_, name=name, ask=getattr(torch.cuda, name): asked.append(name) or ask())
import ufc_monai.base.host
import monai
print(asked, flush=True)
if not os.fork():
    os._exit(torch.cuda._is_in_bad_fork())
print(os.wait()[1])
"""


@pytest.mark.skipif(not host.FORKS, reason="each stage is its own host")
def test_what_a_host_imports_asks_for_no_gpu() -> None:
    """A process that has asked for one has none in its forks."""
    words = [sys.executable, "-W", "ignore", "-c", ASKED]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "[]\n0\n"
