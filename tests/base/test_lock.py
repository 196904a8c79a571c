from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from ufc_monai.base import lock
from ufc_monai.base.errors import InputError
from ufc_monai.base.lock import at_work

HOLDER = """
import sys
from pathlib import Path
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
place = Path(sys.argv[1])
with at_work(place / "run.lock") as held, Host(place, held, place / "log.txt") as host:
    host.start(["stage"])
    host.wait()
"""
"""Holds a folder and starts a stage."""
STAGE = """
import os, subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(100)"])
Path("begun.new").write_text(f"{os.getpid()} {child.pid}")
os.rename("begun.new", "begun")
time.sleep(100)
"""
DEAF = "import threading; os = __import__('os'); os.killpg = lambda *_: threading.Event().wait()\n"
"""Has a stage stay when its parent has gone."""


def until(happened: Callable[[], bool]) -> None:
    for _ in range(1200):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("nothing happened within a minute")


def is_alive(process: int) -> bool:
    """Whether it runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], list[int]]]]:
    """Start a holder with a stage; the latter's numbers are its own and its child's."""
    started: list[int] = []
    holders: list[subprocess.Popen[bytes]] = []

    def begin(stage: str) -> tuple[subprocess.Popen[bytes], list[int]]:
        (tmp_path / "stage.py").write_text(stage)
        words = [sys.executable, "-c", HOLDER, str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        holder = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
        holders.append(holder)
        until((tmp_path / "begun").is_file)
        numbers = [int(word) for word in (tmp_path / "begun").read_text().split()]
        started.extend(numbers)
        return holder, numbers

    yield begin
    for holder in holders:
        kill(holder)
    for process in started:
        if is_alive(process):
            os.kill(process, signal.SIGKILL)


def kill(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()


def test_the_second_is_refused_at_once_and_told_who_is_at_work(tmp_path: Path, hold: Any) -> None:
    holder, (stage, _) = hold(STAGE)
    with pytest.raises(InputError) as caught, at_work(tmp_path / "run.lock"):
        pass
    said = str(caught.value)
    assert said.startswith(f"--folder: {tmp_path} is in use (process {holder.pid} on ")
    assert f"process {stage} on " in said
    assert "python -m stage" in said
    assert len(said.splitlines()) == 1


def test_what_a_killed_process_has_started_ends_with_it(tmp_path: Path, hold: Any) -> None:
    holder, numbers = hold(STAGE)
    kill(holder)
    with at_work(tmp_path / "run.lock"):
        until(lambda: not any(is_alive(number) for number in numbers))  # they are ending


def test_one_left_behind_that_does_not_end_keeps_the_folder(
    tmp_path: Path, hold: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, (stage, child) = hold(DEAF + STAGE)
    kill(holder)
    with monkeypatch.context() as context:
        context.setattr(lock, "PATIENCE", 0.3)
        in_use = rf"is in use \(process {stage} on [^;\n]*\)\. Wait"
        with pytest.raises(InputError, match=in_use), at_work(tmp_path / "run.lock"):
            pass
    for number in (stage, child):
        os.kill(number, signal.SIGKILL)
    with at_work(tmp_path / "run.lock"):
        pass


def test_one_may_wait_for_the_end(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with at_work(tmp_path / "a" / "run.lock", wait=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    with at_work(tmp_path / "a" / "run.lock"):
        waiting.start()
        time.sleep(0.3)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_it_is_given_back_after_a_failure(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="mine"), at_work(tmp_path / "run.lock"):
            raise ValueError("mine")


def test_where_there_are_no_locks_one_is_warned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock, "lock_descriptor", refuse)
    with caplog.at_level(logging.WARNING), at_work(tmp_path / "run.lock"):
        assert "this file system has no locks" in caplog.text


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match=r"^--folder: .*mine is a file"), at_work(tmp_path / "mine" / "run.lock"):
        pass
