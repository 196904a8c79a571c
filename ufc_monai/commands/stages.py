"""A stage as a command that a user would type, and the ledger that says which stages need not run again."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ufc_monai.errors import InputError
from ufc_monai.files import found_json, sha256_of, write_json
from ufc_monai.lock import stage_at_work

__all__ = [
    "RESUME",
    "Ledger",
    "Stage",
    "bundle_command",
    "config_path",
    "is_training",
    "run_command",
    "run_stage",
    "shown",
    "stopped_by_signals",
]

logger = logging.getLogger(__name__)


PATIENCE = 30.0
"""Seconds that a stage has to end after it was told to."""
RESUME = ("--resume", "True")
"""What makes a training go on."""


@dataclass(frozen=True)
class Stage:
    """One command of a run.

    Attributes:
        title: what it does.
        command: its words, for a shell in the run's folder.
        record: the ``run.json`` that it writes; paths are relative to the run's folder.
        inputs: files of earlier stages that it reads.
        outputs: patterns of the files that the rest of the chain takes from it.
        reads_labels: whether the labels of the data set have a say in its result.
        tracking: further words of the command that have it tracked, and no say in its result.
    """

    title: str
    command: tuple[str, ...]
    record: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads_labels: bool = False
    tracking: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command."""
        return (*self.command, *self.tracking)


@dataclass(frozen=True)
class Ledger:
    """Which stages are complete, by the content of everything that they read and wrote: ``stages.json``.

    Attributes:
        folder: of the run.
        images_sha256: of all images of the data set.
        labels_sha256: of all its labels.
    """

    folder: Path
    images_sha256: str
    labels_sha256: str
    _entries: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, images_sha256: str, labels_sha256: str) -> Ledger:
        """Read the ledger of a run's folder; an empty one if there is none."""
        entries = found_json(folder / "stages.json", "--folder")
        return cls(folder, images_sha256, labels_sha256, entries)

    def is_complete(self, stage: Stage) -> bool:
        """Whether the stage has run with this command, configurations, data and inputs, and its outputs stand."""
        entry = self._entries.get(stage.title)
        return entry is not None and entry == {**self._reads(stage), "outputs": self._outputs(stage)}

    def is_begun(self, stage: Stage) -> bool:
        """Whether the stage was begun with this command, configurations, data and inputs, and has not ended."""
        return self._entries.get(stage.title) == {**self._reads(stage), "begun": True}

    def begin(self, stage: Stage, goes_on: bool = False) -> None:
        """Note that a stage is about to run: until it has ended, what it leaves is no result.

        Args:
            stage: the stage.
            goes_on: its training is resumed; else its record and checkpoints of an earlier run are removed first, since
                the caller has found them out of date.
        """
        if not goes_on:
            (self.folder / stage.record).unlink(missing_ok=True)
            for output in stage.outputs:
                for checkpoint in (self.folder / output).parent.glob("checkpoint*.pt"):
                    checkpoint.unlink()
        self._entries[stage.title] = {**self._reads(stage), "begun": True}
        write_json(self.folder / "stages.json", self._entries)

    def complete(self, stage: Stage) -> None:
        """Enter a stage that has just run.

        Raises:
            InputError: if it left none of its outputs.
        """
        outputs = self._outputs(stage)
        if not outputs:
            raise InputError(f"'{stage.title}' ended without writing {', '.join(stage.outputs)} in {self.folder}.")
        self._entries[stage.title] = {**self._reads(stage), "outputs": outputs}
        write_json(self.folder / "stages.json", self._entries)

    def _reads(self, stage: Stage) -> dict[str, Any]:
        return {
            "command": list(stage.command),
            "configs": self._hashes(config_files(stage.command)),
            "images": self.images_sha256,
            "labels": self.labels_sha256 if stage.reads_labels else None,
            "inputs": self._hashes(stage.inputs),
        }

    def _outputs(self, stage: Stage) -> dict[str, str | None]:
        found = (f for pattern in stage.outputs for f in self.folder.glob(pattern))
        return self._hashes(sorted(f.relative_to(self.folder).as_posix() for f in found))

    def _hashes(self, names: Sequence[str]) -> dict[str, str | None]:
        files = {name: self.folder / name for name in names}
        return {name: sha256_of(file) if file.is_file() else None for name, file in files.items()}


def bundle_command(
    bundle: str, configs: Sequence[str], dataset_dir: str, overrides: Mapping[str, Any]
) -> tuple[str, ...]:
    """The words that start a bundle's configurations from the folder that holds the bundle.

    Args:
        bundle: its name.
        configs: names of its configurations, the later laid over the earlier.
        dataset_dir: folder of the data set.
        overrides: further keys and their values.
    """
    files = [f"{bundle}/configs/{config}.json" for config in configs]
    words = ["python", "-m", "monai.bundle", "run"]
    words += ["--config_file", files[0] if len(files) == 1 else str(files).replace(" ", "")]
    words += ["--bundle_root", bundle, "--dataset_dir", dataset_dir]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    return tuple(words)


def config_path(path: str | os.PathLike[str], key: str) -> str:
    """A path as a value of a configuration: absolute, for MONAI runs a text that begins with ``$``.

    Args:
        path: the path.
        key: the option that named it, for the error.

    Raises:
        InputError: if MONAI would read another path: it takes ``#``, ``@::`` and ``%::`` for its own signs.
    """
    text = os.path.abspath(path)
    if any(sign in text for sign in ("#", "@::", "%::")):
        raise InputError(
            f"{key}: MONAI's configurations cannot hold the path {text}: '#', '@::' and '%::' mean something to them. "
            "Rename the folder that has them in its name."
        )
    return text


def config_files(command: Sequence[str]) -> list[str]:
    """The configurations that a command names."""
    value = command[command.index("--config_file") + 1]
    return [part.strip("'") for part in value.strip("[]").split(",")]


def is_training(command: Sequence[str]) -> bool:
    """Whether a command trains, and so can go on where it was cut off (``--resume True``)."""
    names = [Path(name).stem for name in config_files(command)] if "--config_file" in command else [""]
    return names[0] == "train" and "evaluate" not in names


def shown(command: Sequence[str]) -> str:
    """A command as one would type it; lists hold single quotes and stand in double ones, if nothing speaks against."""
    return " ".join(f'"{w}"' if "'" in w and not set(w) & set('"$`\\!') else shlex.quote(w) for w in command)


def run_stage(stage: Stage, folder: Path, goes_on: bool, lock: int) -> None:
    """Start a stage and wait for it. What it says to its standard output goes to ``log.txt``.

    Args:
        stage: the stage.
        folder: of the run.
        goes_on: resume its training.
        lock: of the folder, from :func:`ufc_monai.lock.at_work`.

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
    with stopped_by_signals(), stage_at_work(words, lock, folder, out, errors) as program:
        try:
            while not (stop and stop.is_set()):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return program.wait(timeout=0.5)
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            # before its record is there a stage has nothing to tidy up, and would show where its imports stood;
            # what a script starts with & is deaf to SIGINT, and so is all that it starts
            tidies_up = record.is_file() and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
            program.send_signal(signal.SIGINT if tidies_up else signal.SIGTERM)
            _see_it_end(program)
            raise


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGHUP and SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does."""
    # nohup has a hangup ignored, and so do we then
    ends = [s for s in (signal.SIGHUP, signal.SIGTERM) if signal.getsignal(s) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ends = []
    try:
        for end in ends:
            signal.signal(end, signal.default_int_handler)
        yield
    finally:
        for end in ends:
            signal.signal(end, signal.SIG_DFL)


def _see_it_end(program: subprocess.Popen[bytes]) -> None:
    """Leave no training behind: a program that does not end in time, or while we are asked again, is killed."""
    try:
        program.wait(PATIENCE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        program.kill()


def digest(hashes: Mapping[str, str]) -> str:
    """One sha256 for many named ones."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(hashes.items())).encode()).hexdigest()
