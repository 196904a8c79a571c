"""Work that does not fit into the memory there is does not begin."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ufc_monai.commands import memory
from ufc_monai.commands.memory import memory_limits, refuse_too_little
from ufc_monai.errors import InputError

GB = 10**9


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free and no limits."""
    (tmp_path / "meminfo").write_text("MemTotal:  9999999 kB\nMemAvailable:    7812500 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
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


def test_a_system_that_tells_nothing_refuses_nothing(machine: Path) -> None:
    for file in machine.iterdir():
        file.unlink()
    assert memory_limits() == []
    refuse_too_little(10**15)
