"""Reading many volumes in threads: as many at once as there are cores, and memory for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm.contrib.concurrent import thread_map

from ufc_monai.base.machine import at_once
from ufc_monai.transforms.reader import stored_shape

T = TypeVar("T")

IMAGE_BYTES = 16
"""Most bytes a voxel while an image is read and preprocessed: peak of the resident memory above that of the idle
process, one volume of 512 x 512 x 120 at a time. Store: 13 (int16) and 12 (scaled int16); ``check``: 8 and 16."""
LABELLED_BYTES = 26
"""The same of an image with its label. Store: 25.4 for both; ``check``: 10 and 16. Stage 3's test of 14 structures
takes 21 beside ``PROCESS_BYTES``, and so is covered."""


def reading_bytes(shape: Sequence[int], labelled: bool) -> int:
    """Memory that a volume takes while it is read, with its label or without."""
    return math.prod(shape) * (LABELLED_BYTES if labelled else IMAGE_BYTES)


def stored_bytes(image: str | os.PathLike[str], labelled: bool) -> int:
    """:func:`reading_bytes` of a file, by its header; 0 if that is damaged, as reading it will show."""
    try:
        return reading_bytes(stored_shape(Path(image)), labelled)
    except Exception:
        return 0


def read_together(read: Callable[[int], T], sizes: Sequence[int], title: str, leave: bool = True) -> list[T]:
    """Call ``read`` with 0, 1, ... in threads: one a core, but no more than memory allows. The first error ends all.

    Args:
        read: reads one volume.
        sizes: bytes that each takes.
        title: of the progress bar.
        leave: whether the bar stays.
    """
    threads, bar = at_once(sizes), {"desc": title, "leave": leave, "unit": "volume", "disable": None}
    found: list[T] = thread_map(read, range(len(sizes)), max_workers=threads, **bar)
    return found
