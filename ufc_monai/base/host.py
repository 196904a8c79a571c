"""Stages as processes: forked from one that has imported what they are of, they end with the one that started them."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing.connection
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ufc_monai.base.lock import enter

START = "import ufc_monai.base.host; ufc_monai.base.host.serve()"
"""What a host begins with: before its imports, which take seconds."""
FORKS = sys.platform == "linux"
"""Whether a host outlives a stage. Elsewhere a forked process may crash in the system's libraries: there a host becomes
its stage."""
PATIENCE = 30.0
"""Seconds that a stage has to end after it was told to."""
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""The environment of what computes: threads that spin while they wait make two busy processes slow each other many
times over."""


class Host:
    """The process that a run's stages are forked from, one behind the other. It is started with the first.

    A stage holds the run's lock, and ends when this process is gone, however that ended. It has a process group of its
    own, so that Ctrl-C reaches it through this process alone.

    Args:
        folder: where stages run.
        lock: from :func:`~ufc_monai.base.lock.at_work`.
        log: takes their standard output.
        aloud: leave their standard error to the terminal; else the log takes that, too.
    """

    def __init__(self, folder: Path, lock: int, log: Path, *, aloud: bool = True) -> None:
        self.folder, self.lock, self.log, self.aloud = folder, lock, log, aloud
        self._program: subprocess.Popen[bytes] | None = None
        self._words: Sequence[str] = ()
        self._stage = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the host, and a stage that is still at work."""
        if self._program:
            self._close()

    def start(self, words: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Start a stage, and wait for it by :meth:`wait`.

        Args:
            words: of its command, behind ``python -m``.
            variables: of its environment, beside our own.
        """
        if self._program and self._program.poll() is not None:
            self._close()
        if not self._program:
            self._open()
        self._words = words
        self._ours.sendall(json.dumps([words, dict(variables or {})]).encode() + b"\n")

    def wait(self, timeout: float | None = None) -> int:
        """The exit code of the stage, or, never 0, of the host if that ends first; negative if a signal ended it.

        Args:
            timeout: seconds to wait at most, twice if the stage has just begun.

        Raises:
            TimeoutError: if it is still at work then.
        """
        while multiprocessing.connection.wait([self._ours], timeout):  # select() refuses descriptors from 1024 on
            if not (answer := self._ours.recv(4, socket.MSG_WAITALL)):
                return self._close() or int(FORKS)  # not 0, which an import may have ended it with
            number = int.from_bytes(answer, signed=True)
            if self._stage:
                self._stage = 0
                return number
            self._stage = number
            enter(self.lock, number, ["python", "-m", *self._words])
        raise TimeoutError(f"{self._words} is still at work")

    def end(self, number: signal.Signals) -> None:
        """Signal the stage and wait for its end; if it takes too long, or we are asked again, kill it."""
        with contextlib.suppress(ProcessLookupError, TimeoutError, KeyboardInterrupt):
            if self._stage:
                os.kill(self._stage, number)
                self.wait(PATIENCE)
        if self._program:
            self._close()

    def _open(self) -> None:
        self._ours, theirs = socket.socketpair()
        end, self._alive = os.pipe()
        command = [sys.executable, "-W", "ignore::UserWarning", "-c", START, str(theirs.fileno()), str(end)]
        with theirs, open(end, "rb"), open(self.log, "ab") as out:
            self._program = subprocess.Popen(
                command,
                cwd=self.folder,
                env=PATIENT | os.environ,
                stdout=out,
                stderr=None if self.aloud else out,
                process_group=0,
                pass_fds=(self.lock, theirs.fileno(), end),
            )

    def _close(self) -> int:
        """The host's exit code."""
        if self._stage:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._stage, signal.SIGKILL)
            self._ours.recv(4, socket.MSG_WAITALL)
            self._stage = 0
        program, self._program = self._program, None  # first: Ctrl-C may cut the wait short, and bring us here again
        os.close(self._alive)  # which ends the host
        self._ours.close()
        assert program
        return program.wait()


def serve() -> None:
    """Be a host; returns in none but a stage, at its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whose parent ignores it is told nothing of its children's ends
    connection, end = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    requests, stage = connection.makefile("rb"), 1
    while stage and (line := requests.readline()):
        words, variables = json.loads(line)
        with contextlib.suppress(ImportError):  # the stage will say so
            if package := words[0].rpartition(".")[0]:
                importlib.import_module(package)
        gc.freeze()  # collecting garbage would copy the memory that is shared
        if stage := os.fork() if FORKS else 0:
            _tell(connection, stage)
            _tell(connection, os.waitstatus_to_exitcode(os.waitpid(stage, 0)[1]))
    if not stage:
        _become(words, variables, connection, end)


def _become(words: list[str], variables: Mapping[str, str], connection: socket.socket, end: int) -> None:
    """Run the module that the words name, as ``python -m`` does."""
    if FORKS:
        os.close(connection.detach())  # so that the end of the host shows
        os.setpgid(0, 0)
        threading.Thread(target=_end_with_parent, args=(end,), daemon=True).start()
    else:
        _tell(connection, os.getpid())
        connection.detach()  # stays open until the process has ended, which tells of its end
    os.environ.update(variables)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody is left to hear it
        connection.sendall(number.to_bytes(4, signed=True))


def _end_with_parent(end: int) -> None:
    os.read(end, 1)  # never written to: returns at the end of the file
    os.killpg(0, signal.SIGKILL)
