"""Rows of an array that are written to disk as they come, so that memory does not grow with them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.files import readable_disk_errors


class Spool:
    """A file without a name, of rows of one shape and type; it goes when nothing holds it any more.

    Args:
        folder: whose disk it takes; made if need be.

    Example:
        >>> spool = Spool(".")
        >>> spool.add(np.array([[1, 2]]))
        >>> spool.add(np.array([[3, 4], [5, 6]]))
        >>> spool.rows().tolist()
        [[1, 2], [3, 4], [5, 6]]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = folder
        with readable_disk_errors(folder):
            os.makedirs(folder, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, _close, self._file)  # what rows() has mapped stays
        self._kept, self._n = np.empty(0), 0

    def add(self, rows: NDArray[Any]) -> None:
        """Write rows (n, ...).

        Raises:
            ValueError: if their shape or type is not that of the rows before.
            InputError: if the disk is full.
        """
        if self._n and (rows.shape[1:], rows.dtype) != (self._kept.shape[1:], self._kept.dtype):
            kept = self._kept
            raise ValueError(f"expected rows of {kept.shape[1:]} {kept.dtype}, got {rows.shape[1:]} {rows.dtype}")
        self._kept, self._n = rows[:0], self._n + len(rows)
        with readable_disk_errors(self.folder):
            self._file.write(np.ascontiguousarray(rows).data)

    def rows(self) -> NDArray[Any]:
        """All rows so far, mapped into memory; to be read only."""
        with readable_disk_errors(self.folder):
            self._file.flush()
        if not self._n:
            return self._kept
        return np.memmap(self._file, self._kept.dtype, "r", shape=(self._n, *self._kept.shape[1:]))


def _close(file: IO[bytes]) -> None:
    with contextlib.suppress(OSError):  # a disk that was full when rows were added is full for what is left of them
        file.close()
