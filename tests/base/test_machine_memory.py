"""Work that does not fit into the memory there is does not begin."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import NAMES

from ufc_monai.base import machine as computer
from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import memory_limits, refuse_too_little
from ufc_monai.phantom.ct import make_phantom

GB = 10**9
VAE, CONTRASTIVE, UNET = NAMES
PROGRAM = [sys.executable, "-W", "ignore", "-m", "ufc_monai"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free and no limits."""
    (tmp_path / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:    7812500 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(computer, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(computer, "CGROUP", tmp_path)
    monkeypatch.setattr(computer, "own_memory", lambda: 0)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return tmp_path


def test_of_the_machine_all_jobs_take_their_share(machine: Path) -> None:
    assert [(limit.free, limit.each) for limit in memory_limits()] == [(8 * GB, False)]
    refuse_too_little(4 * GB, jobs=2)
    with pytest.raises(
        InputError, match=r"^memory: 2 jobs need about 10\.0 GB, and this machine leaves 8\.0 GB.*--jobs"
    ):
        refuse_too_little(5 * GB, jobs=2)
    with pytest.raises(InputError, match=r"^memory: a stage needs about 9\.0 GB"):
        refuse_too_little(9 * GB)


def test_a_container_leaves_what_it_does_not_use(machine: Path) -> None:
    (machine / "memory.max").write_text(str(3 * GB))
    (machine / "memory.current").write_text(str(1 * GB))
    refuse_too_little(2 * GB)
    with pytest.raises(InputError, match=r"container .* leaves 2\.0 GB"):
        refuse_too_little(2 * GB + 1)


@pytest.mark.parametrize(("which", "name"), [(resource.RLIMIT_DATA, "-d"), (resource.RLIMIT_AS, "-v")])
def test_a_limit_of_a_process_is_that_of_each_job(
    which: int, name: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infinite = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda w: (GB, GB) if w == which else infinite)
    refuse_too_little(GB, jobs=4)
    with pytest.raises(InputError, match=rf"a stage needs about 2\.0 GB, and 'ulimit {name}' leaves 1\.0 GB"):
        refuse_too_little(2 * GB, jobs=4)


def test_the_process_that_writes_the_report_has_to_fit_too(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (GB, GB))
    monkeypatch.setattr(computer, "own_memory", lambda: 3 * GB)
    with pytest.raises(InputError, match=r"needs about 3\.0 GB, and 'ulimit -d' leaves 1\.0 GB"):
        refuse_too_little(GB)


def test_a_system_that_tells_nothing_refuses_nothing(machine: Path) -> None:
    for file in machine.iterdir():
        file.unlink()
    assert memory_limits() == []
    refuse_too_little(10**15)


def announced(folder: Path, command: Sequence[str]) -> int:
    """Bytes that ``check`` says are needed."""
    text = said_by([*PROGRAM, "check", str(folder), *command, "--output", str(folder / "preview.png")], None).stdout
    total = re.search(r"^all .* ([\d.]+) (MB|GB)$", text, flags=re.MULTILINE)
    assert total, text
    return round(float(total[1]) * {"MB": 1e6, "GB": 1e9}[total[2]])


def said_by(words: Sequence[str], limit: int | None) -> subprocess.CompletedProcess[str]:
    """What a program prints that may have so much data memory, its children too."""
    within = [] if limit is None else ["prlimit", f"--data={limit}"]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return subprocess.run(
        [*within, *words], capture_output=True, text=True, check=False, env={**os.environ, **threads}, timeout=1500
    )


SHORT = [f"--set={VAE}.min_steps=8", f"--set={CONTRASTIVE}.min_steps=8", f"--set={UNET}.min_steps=8"]
SHORT += [f"--set={name}.epochs=1" for name in NAMES]
SMALL_RUN = ["--preset", "cpu", "--threads", "1", *SHORT]
STUDY = [
    "--methods",
    "random,simclr",
    "--budgets",
    "1",
    "--folds",
    "1",
    "--seeds",
    "1",
    "--init_seeds",
    "1",
    "--jobs",
    "2",
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prlimit") is None, reason="limits are set with prlimit")
@pytest.mark.timeout(1800)
def test_what_check_announces_is_enough_and_less_is_said_before_work_begins(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    make_phantom(scans, patients=6, labelled=4)
    enough = round(1.05 * announced(scans, SMALL_RUN))
    for command, more in (("run", []), ("study", STUDY)):
        words = [*PROGRAM, command, "--dataset_dir", str(scans), *SMALL_RUN, *more, "--folder"]
        done = said_by([*words, str(tmp_path / command)], enough)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        refused = said_by([*words, str(tmp_path / f"{command} with less")], round(0.75 * enough))
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: memory: ")
        assert len(refused.stderr.splitlines()) <= 2
        assert not list((tmp_path / f"{command} with less").rglob("model.pt"))
