"""Running a plan: several runs at once, beside other processes that see the same folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ufc_monai.commands.stages import RESUME, is_training, shown
from ufc_monai.engines.log import duration
from ufc_monai.files import read_json, write_json
from ufc_monai.lock import REFRESH, Lock
from ufc_monai.study.runs import SELECTION, SHUFFLE, Run
from ufc_monai.study.selection import write_selection
from ufc_monai.study.shuffle import shuffle_pseudo_labels
from ufc_monai.study.state import COMPLETE, FAILED, WAITING, failure_of, lock_of, note_states, states_of

__all__ = ["execute"]

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds until a worker without work looks again."""


def execute(folder: Path, runs: Sequence[Run], *, jobs: int = 1, devices: Sequence[str] = ()) -> dict[str, str]:
    """Do every run that is not complete and that nobody else does; what has failed before is tried again.

    Args:
        folder: of the study.
        runs: its plan, each run behind those that it needs.
        jobs: runs at once.
        devices: job i computes on device i, beginning again behind the last; none leaves it to the bundles.

    Returns:
        The state of every run when nothing is left that this process could do.
    """
    crew = _Crew(folder, runs)
    with ThreadPoolExecutor(jobs) as pool, _stopping(crew):
        workers = [pool.submit(crew.work, devices[i % len(devices)] if devices else None) for i in range(jobs)]
        # the main thread must stay awake for signals
        while not all(worker.done() for worker in workers):
            time.sleep(0.2)
    for worker in workers:
        worker.result()
    return states_of(folder, runs)


@dataclass
class _Crew:
    """The workers of one process."""

    folder: Path
    runs: Sequence[Run]
    began: float = field(default_factory=time.time)
    stop: threading.Event = field(default_factory=threading.Event)
    turn: threading.Lock = field(default_factory=threading.Lock)
    programs: set[subprocess.Popen[bytes]] = field(default_factory=set)
    complete: dict[str, str] = field(default_factory=dict)

    def work(self, device: str | None) -> None:
        """Take one run after the other, until there is none left or only others' runs are to be waited for."""
        while not self.stop.is_set():
            with self.turn:
                taken, may_come = self._take()
            if taken is None and not may_come:
                return
            if taken is None:
                self.stop.wait(PAUSE)
                continue
            run, lock = taken
            try:
                self._do(run, lock, device)
            finally:
                lock.release()

    def _take(self) -> tuple[tuple[Run, Lock] | None, bool]:
        """The next run with its claim, if there is one; and whether one may come yet."""
        states = states_of(self.folder, [run for run in self.runs if run.name not in self.complete])
        self.complete |= {name: state for name, state in states.items() if state == COMPLETE}
        states |= self.complete
        retried = {run.name for run in self.runs if states[run.name] == FAILED and self._failed_before(run)}
        lost: set[str] = set()
        open_runs = [run for run in self.runs if states[run.name] == WAITING or run.name in retried]
        may_come = False
        for run in open_runs:
            if any(need in lost or (states[need] == FAILED and need not in retried) for need in run.needs):
                lost.add(run.name)
            elif all(states[need] == COMPLETE for need in run.needs):
                lock = lock_of(self.folder, run)
                if lock.acquire():
                    return (run, lock), True
                may_come = True  # somebody is about to do it, or has just given it back
            else:
                may_come = True
        return None, may_come

    def _failed_before(self, run: Run) -> bool:
        try:
            return failure_of(self.folder, run).stat().st_mtime < self.began
        except FileNotFoundError:
            return True

    def _do(self, run: Run, lock: Lock, device: str | None) -> None:
        if all(state == COMPLETE for state in states_of(self.folder, [run]).values()):
            return  # somebody was quicker between the look and the claim
        place, began = self.folder / run.folder, time.monotonic()
        goes_on = bool(_checkpoints(place))
        if not goes_on:
            shutil.rmtree(place, ignore_errors=True)
        failure_of(self.folder, run).unlink(missing_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        error = None
        if run.commands:
            error = self._run_commands(run, lock, device, goes_on)
        else:
            WITHOUT_COMMANDS[run.kind](self.folder, run)
            write_json(self.folder / run.records[0], {"stage": run.kind, "status": "complete"})
        if self.stop.is_set() or not lock.refresh():
            return
        seconds = time.monotonic() - began
        if error is None:
            for checkpoint in _checkpoints(place):  # nobody goes on from it
                checkpoint.unlink(missing_ok=True)
            logger.info("%s: complete in %s", run.name, duration(seconds))
        else:
            write_json(failure_of(self.folder, run), {"error": error})
            logger.warning("%s: FAILED: %s", run.name, error)
        note_states(self.folder)

    def _run_commands(self, run: Run, lock: Lock, device: str | None, goes_on: bool) -> str | None:
        """Run the commands in order, going on with trainings; what the first that fails said last."""
        path = self.folder / run.folder / "log.txt"
        with open(path, "ab") as log:
            for command in run.commands:
                words = [*command, *(["--device", device] if device else [])]
                words += RESUME if goes_on and is_training(command) else ()
                logger.info("%s\n  %s", run.name, shown(words))
                log.write(f"\n# {shown(words)}\n".encode())
                log.flush()
                code = self._wait(words, lock, log)
                if self.stop.is_set():
                    return None
                if code:
                    return _last_line(path, code)
        return None

    def _wait(self, command: Sequence[str], lock: Lock, log: IO[bytes]) -> int:
        words = [sys.executable, "-W", "ignore::UserWarning", *command[1:]]
        # waiting threads that spin make two busy processes slow each other many times over
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **lock.mark}
        with subprocess.Popen(
            words, cwd=self.folder, env=environment, stdout=log, stderr=log, process_group=0
        ) as program:
            self.programs.add(program)
            try:
                while True:
                    if self.stop.is_set() or not lock.refresh():
                        program.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        return program.wait(REFRESH)
            finally:
                self.programs.discard(program)

    def end(self) -> None:
        """Stop: no run is taken any more, and those under way end."""
        self.stop.set()
        for program in list(self.programs):
            with contextlib.suppress(ProcessLookupError):
                program.terminate()


@contextlib.contextmanager
def _stopping(crew: _Crew) -> Iterator[None]:
    """Ctrl-C, hanging up and SIGTERM stop the workers, and their programs with them."""
    # nohup has a hangup ignored, and so do we then
    ends = [s for s in (signal.SIGHUP, signal.SIGTERM) if signal.getsignal(s) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ends = []
    try:
        for end in ends:
            signal.signal(end, signal.default_int_handler)
        yield
    except KeyboardInterrupt:
        crew.end()
        raise
    finally:
        for end in ends:
            signal.signal(end, signal.SIG_DFL)


def _checkpoints(place: Path) -> list[Path]:
    """What a run's training goes on from."""
    return sorted((place / "models").glob("checkpoint*.pt"))


def _deal(folder: Path, run: Run) -> None:
    """Deal the pseudo-labels of the run that this one needs out anew."""
    target = folder / run.folder / "pseudo_labels.json"
    shuffle_pseudo_labels(folder / "runs" / run.needs[0] / "pseudo_labels.json", target, run.seed or 0)


def _select(folder: Path, run: Run) -> None:
    """Order the labelled training volumes of a fold by how they cover the clusters."""
    labelled = read_json(folder / "split.json", "--folder")["folds"][run.fold]["label_orders"][0]
    clusters = folder / "runs" / run.needs[0] / "pseudo_labels.json"
    write_selection(clusters, folder / run.folder / "selection.json", labelled)


WITHOUT_COMMANDS = {SHUFFLE: _deal, SELECTION: _select}
"""Runs that are no stage's command."""


def _last_line(path: Path, code: int) -> str:
    """The last line of a log, where an error stands; of a process that was ended, its signal."""
    with open(path, "rb") as log:
        log.seek(max(0, path.stat().st_size - 4000))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    said = (errors or lines or [""])[-1]
    return said if code > 0 else f"ended by signal {-code} ({said})"
