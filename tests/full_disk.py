"""A disk that is full while one file is written, and has space again afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ufc_monai.base.errors import InputError


@contextmanager
def full_at(name: str) -> Iterator[list[str]]:
    """Nothing of the file ``name`` reaches the disk; what the user is told is in the list afterwards."""
    sync = os.fsync
    said: list[str] = []

    def fail(file: int) -> None:
        if f".{name}." in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(os, "fsync", fail)
        yield said
    said.append(str(caught.value))


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
