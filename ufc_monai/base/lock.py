"""Locks of folders, released when their processes end."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import readable_disk_errors

logger = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that the stages of a killed process have to end."""
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""How a file system without locks answers, such as Lustre mounted without ``flock``."""
SHOWN = 100
"""Characters of a command that a refusal names."""


@contextlib.contextmanager
def at_work(path: Path, *, wait: bool = False) -> Iterator[int]:
    """Hold the lock of a folder while the block runs.

    The system gives the lock back as this process and the last of all stages that it has started end, however they
    do. The file stays: it names the processes at work.

    Args:
        path: the lock's file.
        wait: wait as long as others hold the lock; else wait only for what a killed process has left behind.

    Yields:
        The lock's descriptor.

    Raises:
        InputError: if others hold the lock, naming them; or if the folder is a file or cannot be written to.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise InputError(f"--folder: {path.parent} is a file. Name a folder.")
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        waited = 0.0
        while not _locked(lock, path):
            if not wait:
                _refuse(path, waited)
            time.sleep(0.1)
            waited += 0.1
        os.ftruncate(lock, 0)
        enter(lock, os.getpid(), sys.orig_argv)
        yield lock
    finally:
        os.close(lock)


def _locked(lock: int, path: Path) -> bool:
    try:
        return lock_descriptor(lock, blocking=False)
    except OSError as e:
        if e.errno not in NO_LOCKS:
            raise
        logger.warning("%s: this file system has no locks, so nothing keeps two commands apart here", path)
        return True


def enter(lock: int, process: int, words: Sequence[str]) -> None:
    """Name another process that holds a lock, and its command, to those who are refused."""
    command = " ".join(shlex.join([Path(words[0]).name, *words[1:]]).split())[:SHOWN]
    entry = {"machine": socket.gethostname(), "process": process, "command": command}
    os.write(lock, f"{json.dumps(entry)}\n".encode())


def _refuse(path: Path, waited: float) -> None:
    """Refuse to wait for a process that lives, or any longer for what a dead one has left behind."""
    entries: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):  # it is just being written
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    living = [entry for entry in entries if _may_live(entry)]
    if waited < PATIENCE and not (living and living[0] == entries[0]):
        return
    named = [f"process {e['process']} on {e['machine']}: {e['command']}" for e in living]
    raise InputError(
        f"--folder: {path.parent} is in use ({'; '.join(named) or path}). Wait until that has ended, or name another "
        "--folder."
    )


def _may_live(entry: dict[str, Any]) -> bool:
    """Whether a process may be running; for other machines this is unknown."""
    try:
        os.kill(entry["process"], 0)
    except ProcessLookupError:
        return bool(entry["machine"] != socket.gethostname())
    except PermissionError:  # somebody else's
        pass
    return True
