"""A claim on something that one process shall do, as a file that every process and machine on the folder sees."""

from __future__ import annotations

import contextlib
import errno
import hashlib
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
"""Seconds without one after which another machine's claim counts as given up; clocks may differ by minutes."""

NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
"""How a file system without hard links, such as exFAT, answers."""
MARK = "UFC_MONAI_CLAIM"
"""Environment variable by which programs are known that the holder of a claim has started."""
PATIENCE = 60.0
"""Seconds that a program left behind has to end after SIGKILL; one that hangs in the system's kernel may never."""


class Lock:
    """A claim, held by a file that is created in one step.

    It says which machine and process holds it. A claim whose process is gone from this machine, or whose holder on
    another one has given no sign of life for ten minutes, is taken over; programs that the holder has left behind on
    this machine are ended first, so that no two write to one place.

    Args:
        path: the file.

    Attributes:
        mark: goes into the environment of programs that do the work, by which a successor finds them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex
        self.mark = {MARK: self._token}

    def acquire(self) -> bool:
        """Take the claim, if nobody holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        own = self._written()
        try:
            _take(own, self.path)
        except FileExistsError:
            # a network folder may say so of a request that it has carried out and that came twice
            return self._is_mine() or (not self.is_held() and self._succeed(own))
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
        if holder["machine"] == _machine() and holder.get("since"):  # it may be stopped, or the machine have slept
            return bool(_since(holder["process"]) == holder["since"])
        return age < LOST and (holder["machine"] != _machine() or _is_running(holder["process"]))

    def refresh(self) -> bool:
        """Give a sign of life.

        Returns:
            Whether the claim is one's own; who was silent for too long has lost it.
        """
        mine = self._is_mine()
        if mine:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.path)
        return mine

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

    def _written(self) -> Path:
        """The claim under a name of its own."""
        path = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        process = os.getpid()
        holder = {"machine": _machine(), "process": process, "since": _since(process), "token": self._token}
        path.write_text(json.dumps(holder), encoding="utf-8")
        return path

    def _succeed(self, own: Path) -> bool:
        """Put one's own claim in the place of one that was given up.

        Only who holds the claim on the succession to just that claim may do so, and only while it is still there: else
        one who looked early and acts late would sweep away the claim of somebody quicker.
        """
        given_up = self._text()
        holder = _parsed(given_up)
        succession = Lock(self.path.with_name(f".{self.path.name}.{holder.get('token', 'damaged')}"))
        if given_up is None or not succession.acquire():
            return False
        try:
            if self._text() != given_up or self.is_held():
                return False
            if holder.get("machine") == _machine() and not _end(holder["token"]):
                return False
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
    places = []
    with contextlib.suppress(OSError):
        places.append(Path("/etc/machine-id").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):
        places.append(os.readlink("/proc/self/ns/pid"))
    return f"{socket.gethostname()} {hashlib.sha256(' '.join(places).encode()).hexdigest()[:16]}"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _since(process: int) -> str | None:
    """When a running process began, in ticks of this machine: its number may be another's one day.

    Nothing if it has ended, even if its parent has not asked for it yet, and on systems without /proc.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _end(token: str) -> bool:
    """End the programs that a dead holder of a claim has left behind on this machine; whether none is left."""
    began = time.monotonic()
    while programs := _marked(token):
        for program in programs:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(program, signal.SIGKILL)
        if time.monotonic() - began > PATIENCE:
            return False
        time.sleep(0.1)
    return True


def _marked(token: str) -> list[int]:
    """The running programs in whose environment a claim's token stands."""
    mark, found = f"{MARK}={token}".encode(), []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # somebody else's, or ended meanwhile
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return [program for program in found if program != os.getpid()]
