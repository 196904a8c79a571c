"""A stage as a process: started by its command, waited for, and ended before whatever ends us."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ufc_monai.base.chain import Stage
from ufc_monai.base.errors import InputError
from ufc_monai.base.lock import stage_at_work
from ufc_monai.planning.stages import RESUME, shown

PATIENCE = 30.0
"""Seconds that a stage has to end after it was told to."""


def run_stage(stage: Stage, folder: Path, goes_on: bool, lock: int) -> None:
    """Start a stage and wait for it. What it says to its standard output goes to ``log.txt``.

    Args:
        stage: the stage.
        folder: of the run.
        goes_on: resume its training.
        lock: of the folder, from :func:`ufc_monai.base.lock.at_work`.

    Raises:
        InputError: if it fails.
    """
    words = (*stage.words, *(RESUME if goes_on else ()))
    with open(folder / "log.txt", "ab") as log:
        log.write(f"\n# {stage.title}\n{shown(stage.words)}\n".encode())
        log.flush()
        code = run_command(words, folder, lock, folder / stage.record, log)
    if code:
        raise InputError(
            f"'{stage.title}' ended with exit code {code}; its message stands above. Mend it and run the same command "
            "again: complete stages are skipped, a training goes on."
        )


def run_command(
    command: Sequence[str],
    folder: Path,
    lock: int,
    record: Path,
    out: IO[bytes],
    errors: IO[bytes] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Run a stage's command; whatever stops us stops it first.

    Args:
        command: its words, as a user would type them.
        folder: where it runs.
        lock: of what it writes to.
        record: the ``run.json`` that it writes.
        out: takes its standard output.
        errors: takes its standard error; ``None`` leaves that to the terminal.
        stop: stops it from another thread, as Ctrl-C does in the main one.

    Returns:
        The exit code.

    Raises:
        KeyboardInterrupt: if it was stopped.
    """
    words = command[2:]  # behind "python -m"
    before = _written(record)
    with stopped_by_signals(), stage_at_work(words, lock, folder, out, errors) as program:
        try:
            while not (stop and stop.is_set()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return program.wait(timeout=0.5)
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            # before it has written its record a stage has nothing to tidy up, and would show where its imports stood;
            # what a script starts with & is deaf to SIGINT, and so is all that it starts
            tidies_up = _written(record) != before and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
            program.send_signal(signal.SIGINT if tidies_up else signal.SIGTERM)
            try:
                program.wait(PATIENCE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # too late, or we are asked again
                program.kill()
            raise


def _written(record: Path) -> int | None:
    """When a record was written; one of an earlier attempt may be there."""
    return record.stat().st_mtime_ns if record.is_file() else None


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGHUP and SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does."""
    # nohup has a hangup ignored, and so do we then
    main = threading.current_thread() is threading.main_thread()
    ends = [s for s in (signal.SIGHUP, signal.SIGTERM) if main and signal.getsignal(s) is signal.SIG_DFL]
    try:
        for end in ends:
            signal.signal(end, signal.default_int_handler)
        yield
    finally:
        for end in ends:
            signal.signal(end, signal.SIG_DFL)
