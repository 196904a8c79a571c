"""A claim on something that one process shall do, as a file that every process and machine on the folder sees."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["REFRESH", "Lock"]

REFRESH = 20.0
"""Seconds between two signs of life."""
LOST = 600.0
"""Seconds without one after which a claim counts as given up; clocks of several machines may differ by minutes."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""How a file system without hard links, such as exFAT, answers."""


class Lock:
    """A claim, held by a file that is created in one step.

    It says which machine and process holds it, and which program that process has started. A claim whose process is
    gone from this machine, or that has given no sign of life for ten minutes, is taken over; a program that it has left
    behind is ended first, so that no two write to one place.

    Args:
        path: the file.
        place: the folder that the program writes to; by default the one named like the file, without ``.lock``.
    """

    def __init__(self, path: Path, place: Path | None = None) -> None:
        self.path = path
        self.place = place or path.with_suffix("")
        self._token = uuid.uuid4().hex

    def acquire(self) -> bool:
        """Take the claim, if nobody holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        own = self._written(None)
        try:
            _take(own, self.path)
        except FileExistsError:
            return not self.is_held() and self._succeed(own)
        finally:
            own.unlink(missing_ok=True)
        return True

    def is_held(self) -> bool:
        """Whether some process, this one or another, holds the claim."""
        try:
            age = time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return False
        holder = _parsed(self._text())
        if not holder:  # damaged, or just being written where there are no hard links
            return age < REFRESH
        return age < LOST and (holder["machine"] != _machine() or _is_running(holder["process"]))

    def refresh(self) -> None:
        """Give a sign of life."""
        if self._is_mine():
            os.utime(self.path)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Give signs of life while the block runs, and the claim back behind it."""
        over = threading.Event()

        def live() -> None:
            while not over.wait(REFRESH):
                self.refresh()

        thread = threading.Thread(target=live, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.release()

    def note_program(self, process: int) -> None:
        """Note the program that does the work, the leader of a process group."""
        if self._is_mine():
            os.replace(self._written(process), self.path)

    def release(self) -> None:
        """Give the claim back."""
        if self._is_mine():
            self.path.unlink(missing_ok=True)

    def _is_mine(self) -> bool:
        return _parsed(self._text()).get("token") == self._token

    def _text(self) -> str | None:
        """What the claim says, or nothing if there is none."""
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _written(self, program: int | None) -> Path:
        """The claim under a name of its own."""
        path = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        holder = {"machine": _machine(), "process": os.getpid(), "program": program, "token": self._token}
        path.write_text(json.dumps(holder), encoding="utf-8")
        return path

    def _succeed(self, own: Path) -> bool:
        """Put one's own claim in the place of one that was given up.

        Only who holds the claim on the succession to just that claim may do so, and only while it is still there: else
        one who looked early and acts late would sweep away the claim of somebody quicker.
        """
        given_up = self._text()
        holder = _parsed(given_up)
        succession = Lock(self.path.with_name(f".{self.path.name}.{holder.get('token', 'damaged')}"), self.place)
        if given_up is None or not succession.acquire():
            return False
        try:
            if self._text() != given_up or self.is_held():
                return False
            if holder.get("machine") == _machine() and holder["program"]:
                _end(holder["program"], self.place)
            os.replace(own, self.path)
            return True
        finally:
            succession.release()


def _parsed(claim: str | None) -> dict[str, Any]:
    """Who holds a claim; nothing if there is none, or if it is damaged."""
    try:
        return dict(json.loads(claim or "{}"))
    except ValueError:
        return {}


def _take(own: Path, path: Path) -> None:
    """Give a file a second name, if nobody has that: in one step, on network folders too.

    Raises:
        FileExistsError: if somebody has it.
    """
    try:
        os.link(own, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with open(path, "x", encoding="utf-8") as file:
            file.write(own.read_text(encoding="utf-8"))


def _machine() -> str:
    """Where process ids mean the same: the host and, in containers, their own numbering."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        # a dead process whose parent does not ask for it keeps its number
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's process, or a system without /proc
        return True


def _end(program: int, folder: Path) -> None:
    """End a program that a dead process has left behind, if its number still means a program that writes there."""
    try:
        words = Path(f"/proc/{program}/cmdline").read_text(errors="replace")
        place = folder.resolve().relative_to(os.readlink(f"/proc/{program}/cwd")).as_posix()
    except (OSError, ValueError):
        return
    if "monai.bundle" in words and (place == "." or f"{place}/" in words):
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.killpg(program, signal.SIGKILL)
        while _is_running(program):
            time.sleep(0.1)
