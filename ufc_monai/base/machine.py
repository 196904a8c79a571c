"""What this process may use of the machine: cores, memory, and what its devices can do."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch

from ufc_monai.base.errors import InputError

PROCESS_BYTES = 800_000_000
"""What PyTorch and MONAI take before anything is trained, and pictures behind it."""
SHARE = 0.5
"""Of the free memory, for what runs at once: another rank or job may begin at the same moment."""

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")

LESS_MEMORY = "a smaller batch_size or image_size"
"""What a training takes less memory with."""
REPORT_BYTES = 300_000_000
"""A report with its figures, and what is set aside for threads and not used, take less on top."""
VARIES = 1.1
"""The same work takes up to a tenth more from one time to the next: pages of libraries, memory set aside."""


class Limit(NamedTuple):
    """How much memory something leaves.

    Attributes:
        free: bytes that can be had.
        what: sets the limit.
        each: whether it holds for every process by itself, not for all together.
    """

    free: int
    what: str
    each: bool = False


def at_once(sizes: Sequence[int]) -> int:
    """How many pieces of work to do at once: one a core, as far as half of the free memory goes; at least one.

    Args:
        sizes: bytes that each piece takes while it is done. The largest count, as they may meet.
    """
    free = SHARE * (min((limit.free for limit in memory_limits()), default=math.inf) - PROCESS_BYTES)
    fitting = sum(total <= free for total in accumulate(sorted(sizes, reverse=True)))
    return max(1, min(usable_cores(), fitting))


def usable_cores() -> int:
    """Cores that this process is bound to, or as many as its container is granted if those are fewer."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _text(CGROUP / "cpu.max", "max 1").split()
    return bound if quota == "max" else max(1, min(bound, math.ceil(int(quota) / int(period))))


def memory_limits() -> list[Limit]:
    """What the process's limits (``ulimit -d``, ``-v``), its container and the machine leave, as far as they tell."""
    found = [*_process_limits()]
    limit, used = _text(CGROUP / "memory.max", "max").strip(), _text(CGROUP / "memory.current", "0")
    if limit != "max":
        # cached files give way as soon as memory is needed
        cached = _numbers(CGROUP / "memory.stat").get("inactive_file", 0)
        found.append(Limit(max(0, int(limit) - int(used) + cached), "the container (cgroup memory.max)"))
    if (free := _numbers(MEMINFO).get("MemAvailable:")) is not None:
        found.append(Limit(1024 * free, "this machine"))
    return found


def _process_limits() -> list[Limit]:
    named = {"ulimit -d": resource.RLIMIT_DATA, "ulimit -v": resource.RLIMIT_AS}
    limits = {what: resource.getrlimit(which)[0] for what, which in named.items()}
    # the stages are processes of their own, so that what this one uses does not count
    return [Limit(n, f"'{what}'", each=True) for what, n in limits.items() if n != resource.RLIM_INFINITY]


def _numbers(path: Path) -> dict[str, int]:
    """The lines ``name number`` of a file of the system."""
    words = (line.split() for line in _text(path, "").splitlines())
    return {name: int(number) for name, number, *_ in words}


def _text(path: Path, otherwise: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return otherwise


def multiplies_in_bf16(device: torch.device | str) -> bool:
    """Whether bf16 is quicker there: a CUDA GPU of compute capability 8 or more, a CPU with AVX512-BF16 or AMX-BF16."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


@contextlib.contextmanager
def short_products(device: torch.device) -> Iterator[None]:
    """Let float32 products round what they multiply, to TF32 on a GPU and to bf16 on a CPU, where that is quicker."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for single backends, which is the user's choice
        before = ""
    if before != "highest" or not multiplies_in_bf16(device):
        yield
        return
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def refuse_too_little(need: int, jobs: int = 1, less: str = LESS_MEMORY) -> None:
    """Refuse work that surely does not fit.

    Args:
        need: bytes of a process that trains, at the least.
        jobs: processes at once.
        less: what would need less.

    Raises:
        InputError: if there is less.
    """
    for limit in memory_limits():
        wanted = max(need, own_memory()) if limit.each else need * jobs
        if limit.free < wanted:
            who = f"{jobs} jobs need" if jobs > 1 and not limit.each else "a stage needs"
            fewer = ", or fewer --jobs" if jobs > 1 else ""
            raise InputError(
                f"memory: {who} about {size(wanted)}, and {limit.what} leaves {size(limit.free)}. Take {less}{fewer}, "
                "end other programs, or raise the limit."
            )


def own_memory() -> int:
    """Bytes that this process has had at its largest, and needs to write a report as well."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + REPORT_BYTES


def size(n_bytes: float) -> str:
    """A number of bytes in MB or GB.

    Example:
        >>> size(3_000_000), size(2_500_000_000)
        ('3 MB', '2.5 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
