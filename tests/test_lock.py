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


def hold(path: Path, process: int, machine: str | None = None, program: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = {"machine": machine or lock._machine(), "process": process, "program": program, "token": "x"}
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
                hold(path, dead := 2**22 + 1)  # above any process number that Linux gives
                assert not lock._is_running(dead)
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


def test_a_sign_of_life(path: Path) -> None:
    mine = Lock(path)
    assert mine.acquire()
    os.utime(path, (0, time.time() - LOST - 1))
    assert not mine.is_held()
    mine.refresh()
    assert mine.is_held()
    mine.note_program(17)
    assert json.loads(path.read_text())["program"] == 17
    assert not Lock(path).acquire()


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


@pytest.mark.parametrize("inside", [True, False])
def test_a_program_left_behind_in_a_folder_of_its_own(path: Path, tmp_path: Path, inside: bool) -> None:
    """Where all of a folder is one run's, every bundle that was started there belongs to it."""
    words = [sys.executable, "-S", "-c", "import time; time.sleep(60)", "monai.bundle"]
    (tmp_path / "other").mkdir()
    with subprocess.Popen(words, cwd=tmp_path if inside else tmp_path / "other", process_group=0) as program:
        while not Path(f"/proc/{program.pid}/cmdline").read_bytes().count(b"monai"):
            time.sleep(0.01)
        hold(path, dead_process(), program=program.pid)
        assert Lock(path, tmp_path).acquire()
        assert (program.poll() is not None) == inside
        program.kill()


@pytest.mark.parametrize(("place", "ends"), [("ufc_dbscan_0.5", True), ("ufc_dbscan_0.6", False)])
def test_a_program_left_behind_is_ended(path: Path, tmp_path: Path, place: str, ends: bool) -> None:
    """But no other program, should the system have given the number away again."""
    words = [sys.executable, "-S", "-c", "import time; time.sleep(60)", "monai.bundle", f"runs/fold0/{place}/train"]
    with subprocess.Popen(words, cwd=tmp_path, process_group=0) as program:
        while not Path(f"/proc/{program.pid}/cmdline").read_bytes().count(b"monai"):
            time.sleep(0.01)
        hold(path, dead_process(), program=program.pid)
        assert Lock(path).acquire()
        assert (program.poll() is not None) == ends
        program.kill()


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


def test_a_program_left_behind_may_end_by_itself(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, "-c", "import time; time.sleep(60)", "monai.bundle", f"{path.with_suffix('')}/models"]
    with subprocess.Popen(words, cwd=tmp_path, process_group=0) as program:
        while not Path(f"/proc/{program.pid}/cmdline").read_bytes().count(b"monai"):
            time.sleep(0.01)

        def too_late(*_: int) -> None:
            program.kill()
            program.wait()
            raise ProcessLookupError

        monkeypatch.setattr(os, "killpg", too_late)
        hold(path, dead_process(), program=program.pid)
        assert Lock(path).acquire()
        assert program.poll() is not None
