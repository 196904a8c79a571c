"""Reading many volumes in threads: as many at once as there are cores, and memory for."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from ufc_monai.machine import at_once
from ufc_monai.transforms.reader import stored_shape

__all__ = ["read_together", "reading_bytes", "stored_bytes"]

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
    """:func:`reading_bytes` of a file, by its header; 0 if that is damaged, of which reading it will tell."""
    try:
        return reading_bytes(stored_shape(Path(image)), labelled)
    except Exception:
        return 0


def read_together(
    read: Callable[[int], T], sizes: Sequence[int], title: str, workers: int | None = None, leave: bool = True
) -> list[T]:
    """Call ``read`` with 0, 1, ... in threads. The first error ends all.

    Args:
        read: reads one volume.
        sizes: bytes that each takes.
        title: of the progress bar.
        workers: threads; ``None`` for one a core, but no more than memory allows.
        leave: whether the bar stays.
    """
    with ThreadPoolExecutor(workers or at_once(sizes)) as pool:
        found = pool.map(read, range(len(sizes)))
        try:
            return list(tqdm(found, title, len(sizes), leave=leave, unit="volume", disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
