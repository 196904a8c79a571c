"""Stages as processes: their commands, as a user would type them, and the ledger that says which need not run again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ufc_monai.base.chain import ASKED, is_as_recorded
from ufc_monai.base.files import append_line, found_json, inert, sha256_of
from ufc_monai.base.host import Host

HOW = ("--threads", "--device", "--tracking", "--tracking_uri", "--experiment_name")
"""Options of a command by which a stage is not another one."""
RESUME = ("--resume", "True")
"""What makes a training go on."""

COMPLETE, BEGUN, TO_DO = "complete", "begun", "to do"


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
        InputError: if MONAI would read another path.
    """
    return str(inert(os.path.abspath(path), key))


def options_of(command: Sequence[str]) -> dict[str, str]:
    """The options of a command, by their names with dashes."""
    return dict(zip(command[4::2], command[5::2], strict=True))


def config_files(command: Sequence[str]) -> list[str]:
    """The configurations that a command names."""
    return named_configs(options_of(command))


def named_configs(options: Mapping[str, str]) -> list[str]:
    """The configurations that the options of a command name."""
    return [part.strip("'") for part in options["--config_file"].strip("[]").split(",")]


def is_training(command: Sequence[str]) -> bool:
    """Whether a command trains, and so can go on where it was cut off (``--resume True``)."""
    names = [Path(name).stem for name in config_files(command)]
    return names[0] == "train" and "evaluate" not in names


def shown(command: Sequence[str]) -> str:
    """A command as one would type it; lists hold single quotes and stand in double ones, if nothing speaks against."""
    return " ".join(f'"{w}"' if "'" in w and not set(w) & set('"$`\\!') else shlex.quote(w) for w in command)


@dataclass(frozen=True)
class Step:
    """One command of a bundle; paths are relative to the folder where it runs.

    Whether it is complete is asked of the ``run.json`` that it writes, and of nothing else.

    Attributes:
        title: what it does.
        command: its words, as a user would type them.
        record: the ``run.json``.
        outputs: patterns of the files that others take from it, all of which have to be there.
        reads: what of the data set has a say in its result.
    """

    title: str
    command: tuple[str, ...]
    record: str
    outputs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, str]:
        """The options of its command, but for those that say how it is computed, not what."""
        return {key: value for key, value in options_of(self.command).items() if key not in HOW}

    def asked(self, folder: Path, data: Mapping[str, str]) -> dict[str, Any]:
        """What makes the step the one it is, as its record keeps it: options, and sha256 of configurations and data.

        Args:
            folder: where it runs.
            data: a sha256 of each part of the data set.
        """
        configs = {name: sha256_of(folder / name) for name in config_files(self.command)}
        return {"options": self.options, "configs": configs, "data": {part: data[part] for part in self.reads}}

    def state(self, folder: Path, data: Mapping[str, str]) -> str:
        """``COMPLETE``; ``BEGUN``, if it is a training that can go on; or ``TO_DO``.

        It stands if the record tells of the same options, configurations and data, and of files as they are now.
        Arguments are those of :meth:`asked`.
        """
        record = found_json(folder / self.record, "--folder")
        if record.get("asked") != self.asked(folder, data) or not is_as_recorded(folder / self.record):
            return TO_DO
        if record["status"] == "complete":
            return TO_DO if self.lacking(folder, record["results"].get("volumes", 1)) else COMPLETE
        return BEGUN if is_training(self.command) else TO_DO

    def lacking(self, folder: Path, many: int = 1) -> list[str]:
        """The outputs that are not there; a pattern with wildcards stands for ``many`` files."""
        return [name for name in self.outputs if len(list(folder.glob(name))) < (many if "*" in name else 1)]

    def run(
        self,
        host: Host,
        data: Mapping[str, str],
        *,
        goes_on: bool,
        device: str | None = None,
        stop: threading.Event | None = None,
    ) -> int:
        """Do the step, or go on with it, and wait for it; whatever stops us stops it first.

        Args:
            host: starts it; its log takes the command, too.
            data: as for :meth:`asked`.
            goes_on: resume its training; else what an earlier attempt has left is taken away first.
            device: where it computes; ``None`` leaves it to the bundle.
            stop: stops it from another thread, as Ctrl-C does in the main one.

        Returns:
            The exit code.

        Raises:
            KeyboardInterrupt: if it was stopped.
        """
        folder = host.folder
        if not goes_on:
            self._withdraw(folder)
        words = (*self.command, *(("--device", device) if device else ()), *(RESUME if goes_on else ()))
        append_line(host.log, f"\n# {self.title}\n{shown(words)}")
        before = self._written(folder)
        with stopped_by_signals():
            try:
                host.start(words[2:], {ASKED: json.dumps(self.asked(folder, data))})
                while not (stop and stop.is_set()):
                    with contextlib.suppress(TimeoutError):
                        return host.wait(0.5)
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                # before it has written its record a stage has nothing to tidy up, and would show where its imports
                # stood; what a script starts with & is deaf to SIGINT, and so is all that it starts
                tidies_up = self._written(folder) != before and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
                host.end(signal.SIGINT if tidies_up else signal.SIGTERM)
                raise

    def _withdraw(self, folder: Path) -> None:
        """Take away the record, so that nothing is a result until there is a new one, and checkpoints to go on from."""
        (folder / self.record).unlink(missing_ok=True)
        if is_training(self.command):
            models = folder / (self.options.get("--ckpt_dir") or f"{self.options['--bundle_root']}/models")
            for checkpoint in models.glob("checkpoint*.pt"):
                checkpoint.unlink()

    def _written(self, folder: Path) -> int | None:
        """When the record was written; one of an earlier attempt may be there."""
        record = folder / self.record
        return record.stat().st_mtime_ns if record.is_file() else None


def changes(folder: Path, bundles: Path, steps: Iterable[Step]) -> list[str]:
    """What steps that have run, or were begun, were asked for otherwise.

    Args:
        folder: where they run.
        bundles: where configurations are copied from that the folder lacks.
        steps: as they are asked for now.

    Returns:
        In words, each option as it was and is, and each configuration with another content; and each step that
        something else has started, whose result would be lost as well.
    """
    changed = set[str]()
    for step in steps:
        if not (record := found_json(folder / step.record, "--folder")):
            continue
        if not (asked := record.get("asked")):
            changed.add(f"'{step.title}' started by hand, or by an earlier version / by this command")
            continue
        was, now = asked["options"], step.options
        other: dict[str, list[str]] = {
            key: [options.get(key, "default") for options in (was, now)] for key in was | now
        }
        differ = {key: values for key, values in other.items() if values[0] != values[1]}
        if files := differ.pop("--config_file", None):  # of presets, a method, or a fine-tuning
            differ["configurations"] = [" ".join(re.findall(r"(\w+)\.json", text)) for text in files]
        changed |= {f"{key.removeprefix('--')} {a} / {b}" for key, (a, b) in differ.items()}
        for name in asked["configs"].keys() & config_files(step.command):
            file = next(place / name for place in (folder, bundles) if (place / name).is_file())
            if asked["configs"][name] != sha256_of(file):
                changed.add(f"the content of {name}")
    return sorted(changed)


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
