"""What this process may use of the machine: cores and memory."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

PROCESS_BYTES = 800_000_000
"""What PyTorch and MONAI take before anything is trained, and pictures behind it."""
SHARE = 0.5
"""Of the free memory, for what runs at once: another rank or job may begin at the same moment."""

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


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
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return []
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
