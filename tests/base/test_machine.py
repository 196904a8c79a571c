"""How much of the machine may be used: cores by binding and container, work at once by memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose
from scans import FILES, SHAPE, STRAIGHT, write_all
from tqdm.contrib.concurrent import thread_map

from ufc_monai.base import machine
from ufc_monai.base.machine import LESS_MEMORY, PROCESS_BYTES, Limit, at_once, usable_cores
from ufc_monai.data import store
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.inspect import inspect_cases
from ufc_monai.data.store import SliceStore, reading_bytes, stored_bytes
from ufc_monai.planning.estimate import StageEstimate, least_memory, reading_memory
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

GB = 10**9


@pytest.fixture
def cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 32 cores, of which this process is bound to 8, in a container that says nothing."""
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("granted", "expected"), [("max 100000\n", 8), ("250000 100000\n", 3), ("5000 100000", 1)])
def test_cores_are_those_that_may_be_used(cores: Path, granted: str, expected: int) -> None:
    assert usable_cores() == 8
    (cores / "cpu.max").write_text(granted)
    assert usable_cores() == expected


def test_a_system_without_binding_counts_all(cores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == 32


def test_files_in_memory_that_nobody_needs_are_free(cores: Path) -> None:
    (cores / "memory.max").write_text(str(4 * GB))
    (cores / "memory.current").write_text(str(3 * GB))
    (cores / "memory.stat").write_text(f"anon {GB}\ninactive_file {2 * GB}\n")
    (limit,) = [limit for limit in machine.memory_limits() if "container" in limit.what]
    assert limit.free == 3 * GB


@given(st.lists(st.integers(0, 10 * GB), min_size=1), st.integers(0, 100 * GB), st.integers(1, 64))
def test_as_many_at_once_as_fit(sizes: list[int], free: int, n_cores: int) -> None:
    """Those that run fit into half of what is free; one more does not, or there is no core for it, or no work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "memory_limits", lambda: [Limit(free, "this machine"), Limit(200 * GB, "'ulimit -v'")])
        patch.setattr(machine, "usable_cores", lambda: n_cores)
        n = at_once(sizes)
    half = (free - PROCESS_BYTES) / 2
    these, one_more = (sum(sorted(sizes, reverse=True)[:m]) for m in (n, n + 1))
    assert n == 1 or these <= half
    assert n == min(n_cores, len(sizes)) or one_more > half or (n == 1 and these > half)


@pytest.mark.parametrize(("volumes", "expected"), [(0.5, 1), (3, 1), (6, 3), (100, 8)])
def test_the_forecast_is_what_happens(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: Path, volumes: float, expected: int
) -> None:
    """Eight labelled volumes, and memory for some of them: twice as many, since half of it is left alone."""
    cases = find_cases(phantom)
    facts = inspect_cases(phantom, cases)
    largest = max(reading_bytes(f.grid.shape, labelled=True) for f in facts if f.grid)
    free = PROCESS_BYTES + round(volumes * largest)
    monkeypatch.setattr(machine, "memory_limits", lambda: [Limit(free, "this machine")])
    used: list[int] = []

    def read(read_one: Any, numbers: Any, max_workers: int, **bar: Any) -> Any:
        used.append(max_workers)
        return thread_map(read_one, numbers, max_workers=max_workers, **bar)

    monkeypatch.setattr(store, "thread_map", read)
    inspect_cases(phantom, cases)
    steps = list(Compose([LoadVolumed(["image", "label"]), AxialSlicesd(["image", "label"])]).transforms)
    SliceStore(tmp_path / "store", steps).open([case.item(phantom) for case in cases])
    forecast, taken = reading_memory(cases, facts)
    assert [*used, forecast] == [expected] * 3
    assert taken - PROCESS_BYTES <= max(largest, volumes * largest / 2)


def test_the_refusal_names_what_helps(phantom: Path) -> None:
    """One volume after the other can always be read: the least is one, whatever the number of cores."""
    cases = find_cases(phantom)
    facts = inspect_cases(phantom, cases)
    need, less = least_memory([], cases, facts)
    assert need == PROCESS_BYTES + max(reading_bytes(f.grid.shape, labelled=True) for f in facts if f.grid)
    assert "smaller volumes (crop or resample ct_train_" in less
    training = StageEstimate("stage 3", 1, 1.0, 1, 10 * GB, "cpu, threads: 1")
    assert least_memory([training], cases, facts) == (10 * GB, LESS_MEMORY)


@pytest.mark.parametrize("name", [*FILES, "series"])
def test_headers_tell_sizes(tmp_path: Path, name: str) -> None:
    write_all(tmp_path, STRAIGHT)
    assert stored_bytes(tmp_path / name, labelled=False) == reading_bytes(SHAPE, labelled=False)
    (tmp_path / "a.nii.gz").write_bytes(b"cut")
    assert stored_bytes(tmp_path / "a.nii.gz", labelled=False) == 0
