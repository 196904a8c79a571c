"""Whether the memory that work will take can be had, asked before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from ufc_monai.errors import InputError

__all__ = ["PROCESS_BYTES", "VARIES", "Limit", "memory_limits", "own_memory", "refuse_too_little", "size"]

PROCESS_BYTES = 800_000_000
"""What PyTorch and MONAI take before anything is trained, and pictures behind it."""
REPORT_BYTES = 300_000_000
"""A report with its figures, and what is set aside for threads and not used, take less on top."""
VARIES = 1.1
"""The same work takes up to a tenth more from one time to the next: pages of libraries, memory set aside."""

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


def refuse_too_little(need: int, jobs: int = 1) -> None:
    """Refuse work that surely does not fit.

    Args:
        need: bytes of a process that trains, at the least.
        jobs: processes at once.

    Raises:
        InputError: if there is less.
    """
    for limit in memory_limits():
        wanted = max(need, own_memory()) if limit.each else need * jobs
        if limit.free < wanted:
            who = f"{jobs} jobs need" if jobs > 1 and not limit.each else "a stage needs"
            fewer = ", or fewer --jobs" if jobs > 1 else ""
            raise InputError(
                f"memory: {who} about {size(wanted)}, and {limit.what} leaves {size(limit.free)}. Take a smaller "
                f"batch_size or image_size{fewer}, end other programs, or raise the limit."
            )


def own_memory() -> int:
    """Bytes that this process has had at its largest, and needs to write a report as well; 0 where nothing tells."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + REPORT_BYTES


def memory_limits() -> list[Limit]:
    """What the process's limits (``ulimit -d``, ``-v``), its container and the machine leave, as far as they tell."""
    found = [*_process_limits()]
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    if limit is not None and used is not None:
        found.append(Limit(max(0, limit - used), "the container (cgroup memory.max)"))
    if MEMINFO.is_file():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="utf-8").splitlines())
        if "MemAvailable" in lines:
            found.append(Limit(1024 * int(lines["MemAvailable"].split()[0]), "this machine"))
    return found


def size(n_bytes: float) -> str:
    """A number of bytes in MB or GB.

    Example:
        >>> size(3_000_000), size(2_500_000_000)
        ('3 MB', '2.5 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def _process_limits() -> list[Limit]:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return []
    named = {"ulimit -d": resource.RLIMIT_DATA, "ulimit -v": resource.RLIMIT_AS}
    limits = {what: resource.getrlimit(which)[0] for what, which in named.items()}
    # the stages are processes of their own, so that what this one uses does not count
    return [Limit(n, f"'{what}'", each=True) for what, n in limits.items() if n != resource.RLIM_INFINITY]


def _number(path: Path) -> int | None:
    """The number in a file of the system; ``None`` if there is none, or no limit."""
    try:
        return int(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
