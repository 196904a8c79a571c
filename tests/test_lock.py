from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ufc_monai import lock
from ufc_monai.lock import LOST, REFRESH, Lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "fold0" / "ufc_dbscan_0.5.lock"


def dead_process() -> int:
    """The number of a process that has ended."""
    program = subprocess.Popen([sys.executable, "-S", "-c", ""])
    program.wait()
    return program.pid


def hold(path: Path, process: int, machine: str | None = None, since: str | None = "17") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = {"machine": machine or lock._machine(), "process": process, "since": since, "token": "x"}
    path.write_text(json.dumps(holder))


def test_one_of_many_gets_it(path: Path) -> None:
    locks = [Lock(path) for _ in range(20)]
    with ThreadPoolExecutor(10) as pool:
        got = list(pool.map(Lock.acquire, locks))
    assert sum(got) == 1
    for other in [other for other, mine in zip(locks, got, strict=True) if not mine]:
        other.release()
    assert locks[0].is_held()
    locks[got.index(True)].release()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_a_dead_process_holds_nothing(path: Path) -> None:
    hold(path, dead_process())
    assert not Lock(path).is_held()
    locks = [Lock(path) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(Lock.acquire, locks)) == 1


def test_many_races_for_what_a_dead_process_held(path: Path) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(200):
                hold(path, 2**22 + 1)  # above any process number that Linux gives
                assert sum(pool.map(Lock.acquire, [Lock(path) for _ in range(8)])) == 1
    finally:
        sys.setswitchinterval(before)
    assert list(path.parent.iterdir()) == [path]


def test_who_looked_early_and_acts_late_takes_nothing_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(path, dead_process())
    quick, slow = Lock(path), Lock(path)
    seen: list[bool] = []

    def look(self: Lock) -> bool:
        held = is_held(self)
        if self is slow and not seen:
            seen.append(held)
            assert quick.acquire()
        return held

    is_held = Lock.is_held
    monkeypatch.setattr(Lock, "is_held", look)
    assert not slow.acquire()
    assert seen == [False]
    assert quick._is_mine()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("damaged", [True, False])
def test_an_heir_that_died_too_is_succeeded(path: Path, damaged: bool) -> None:
    hold(path, dead_process())
    if damaged:
        path.write_text("{")
        os.utime(path, (0, time.time() - REFRESH - 1))
    hold(path.with_name(f".{path.name}.{'damaged' if damaged else 'x'}"), dead_process())
    assert Lock(path).acquire()
    assert list(path.parent.iterdir()) == [path]


def test_of_another_machine_only_silence_tells(path: Path) -> None:
    hold(path, dead_process(), machine=f"not {socket.gethostname()}")
    assert not Lock(path).acquire()
    os.utime(path, (0, time.time() - LOST - 1))
    assert Lock(path).acquire()


def test_a_sign_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Lock(path)
    assert mine.acquire()
    monkeypatch.setattr(lock, "_machine", lambda: "another one")
    os.utime(path, (0, time.time() - LOST - 1))
    assert not mine.is_held()
    assert mine.refresh()
    assert mine.is_held()
    os.utime(path, (0, time.time() - LOST - 1))
    assert Lock(path).acquire()
    assert not mine.refresh()


def test_who_slept_on_this_machine_has_lost_nothing(path: Path) -> None:
    assert Lock(path).acquire()
    os.utime(path, (0, time.time() - LOST - 1))
    assert not Lock(path).acquire()


def test_a_number_that_the_system_has_given_away_again(path: Path) -> None:
    hold(path, os.getpid(), since="17")
    assert not Lock(path).is_held()
    hold(path, os.getpid(), since=lock._since(os.getpid()))
    assert Lock(path).is_held()
    hold(path, os.getpid(), since=None)  # written by a system without /proc
    assert Lock(path).is_held()
    hold(path, dead_process(), since=None)
    assert not Lock(path).is_held()


def test_a_dead_process_that_nobody_has_asked_for_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        assert lock._since(program.pid) is None


def test_signs_of_life_while_a_block_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "REFRESH", 0.01)
    mine = Lock(path)
    assert mine.acquire()
    with pytest.raises(InterruptedError), mine.kept():
        os.utime(path, (0, time.time() - LOST - 1))
        began = time.monotonic()
        while not mine.is_held() and time.monotonic() - began < 10:
            time.sleep(0.01)
        assert mine.is_held()
        raise InterruptedError
    assert not path.exists()


@pytest.mark.parametrize("token", ["x", "y"])
def test_what_the_dead_has_left_behind_is_ended(path: Path, token: str) -> None:
    """With what that has started, too; but no other program."""
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
    child += "start_new_session=True); print(flush=True); time.sleep(60)"
    words, environment = [sys.executable, "-c", child], {**os.environ, lock.MARK: token}
    hold(path, dead_process())
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        assert len(lock._marked(token)) == 2
        assert Lock(path).acquire()
        assert len(lock._marked(token)) == (0 if token == "x" else 2)
        assert (program.poll() is not None) == (token == "x")
        lock._end(token)


def test_what_cannot_be_ended_keeps_the_claim(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.0)
    monkeypatch.setattr(os, "kill", lambda *_: None)
    hold(path, dead_process())
    with subprocess.Popen([sys.executable, "-c", "input()"], env={lock.MARK: "x"}, stdin=subprocess.PIPE):
        assert not Lock(path).acquire()
    assert Lock(path).acquire()


def test_a_program_left_behind_may_end_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(path, dead_process())
    with subprocess.Popen([sys.executable, "-c", "input()"], env={lock.MARK: "x"}, stdin=subprocess.PIPE) as program:

        def too_late(*_: int) -> None:
            program.communicate()
            raise ProcessLookupError

        monkeypatch.setattr(os, "kill", too_late)
        assert Lock(path).acquire()


def test_a_request_that_came_twice(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As network folders may answer."""

    def twice(*names: Path) -> None:
        link(*names)
        link(*names)

    link = os.link
    monkeypatch.setattr(os, "link", twice)
    assert Lock(path).acquire()
    assert not Lock(path).acquire()


def test_a_disk_without_hard_links_will_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    test_one_of_many_gets_it(path)
    path.write_text("")  # the moment before the claim is written
    assert Lock(path).is_held()
    os.utime(path, (0, time.time() - REFRESH - 1))
    assert Lock(path).acquire()
    assert list(path.parent.iterdir()) == [path]
