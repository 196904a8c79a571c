"""Whether the memory that work will take can be had, asked before it begins."""

from __future__ import annotations

import sys

from ufc_monai.errors import InputError
from ufc_monai.machine import memory_limits

__all__ = ["LESS_MEMORY", "VARIES", "own_memory", "refuse_too_little", "size"]

LESS_MEMORY = "a smaller batch_size or image_size"
"""What a training takes less memory with."""
REPORT_BYTES = 300_000_000
"""A report with its figures, and what is set aside for threads and not used, take less on top."""
VARIES = 1.1
"""The same work takes up to a tenth more from one time to the next: pages of libraries, memory set aside."""


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
    """Bytes that this process has had at its largest, and needs to write a report as well; 0 where nothing tells."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + REPORT_BYTES


def size(n_bytes: float) -> str:
    """A number of bytes in MB or GB.

    Example:
        >>> size(3_000_000), size(2_500_000_000)
        ('3 MB', '2.5 GB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
