"""The commands of stages, as a user would type them, and the ledger that says which need not run again."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.base.chain import Stage
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, inert, sha256_of, write_json

HOW = ("--threads", "--device")
"""Options of a command by which a stage is not another one."""
RESUME = ("--resume", "True")
"""What makes a training go on."""


class Ledger:
    """Which stages are complete, by the content of everything that they read and wrote: ``stages.json``.

    Args:
        folder: of the run.
        images_sha256: of all images of the data set.
        labels_sha256: of all its labels.
        all_images_sha256: of the images and those of the test set.
    """

    def __init__(self, folder: Path, images_sha256: str, labels_sha256: str, all_images_sha256: str = "") -> None:
        self.path = folder / "stages.json"
        self._images, self._labels, self._all_images = images_sha256, labels_sha256, all_images_sha256
        self._entries = found_json(self.path, "--folder")

    def is_complete(self, stage: Stage) -> bool:
        """Whether the stage has run with this command, configurations, data and inputs, and its outputs stand."""
        return self._is(stage, outputs=self._outputs(stage))

    def is_begun(self, stage: Stage) -> bool:
        """Whether the stage was begun with this command, configurations, data and inputs, and has not ended."""
        return self._is(stage, begun=True)

    def begin(self, stage: Stage, goes_on: bool = False) -> None:
        """Note that a stage is about to run: until it has ended, what it leaves is no result.

        Args:
            stage: the stage.
            goes_on: its training is resumed; else its record and checkpoints of an earlier run are removed first, since
                the caller has found them out of date.
        """
        if not goes_on:
            (self.path.parent / stage.record).unlink(missing_ok=True)
            for output in stage.outputs:
                for checkpoint in (self.path.parent / output).parent.glob("checkpoint*.pt"):
                    checkpoint.unlink()
        self._enter(stage, begun=True)

    def complete(self, stage: Stage) -> None:
        """Enter a stage that has just run.

        Raises:
            InputError: if it left none of its outputs.
        """
        if not (outputs := self._outputs(stage)):
            wanted = ", ".join(stage.outputs)
            raise InputError(f"'{stage.title}' ended without writing {wanted} in {self.path.parent}.")
        self._enter(stage, outputs=outputs)

    def _is(self, stage: Stage, **state: Any) -> bool:
        """Whether the entry of a stage is what it would be now, whatever it was computed on."""
        there, now = self._entries.get(stage.title, {}), self._entry(stage, **state)
        return {**there, "command": _options(there.get("command", ()))} == {**now, "command": _options(stage.command)}

    def _enter(self, stage: Stage, **state: Any) -> None:
        self._entries[stage.title] = self._entry(stage, **state)
        write_json(self.path, self._entries)

    def _entry(self, stage: Stage, **state: Any) -> dict[str, Any]:
        return {
            "command": list(stage.command),
            "configs": self._hashes(config_files(stage.command)),
            "images": self._all_images if stage.reads_test_images else self._images,
            "labels": self._labels if stage.reads_labels else None,
            "inputs": self._hashes(stage.inputs),
            **state,
        }

    def _outputs(self, stage: Stage) -> dict[str, str | None]:
        folder = self.path.parent
        found = (file for pattern in stage.outputs for file in folder.glob(pattern))
        return self._hashes(sorted(file.relative_to(folder).as_posix() for file in found))

    def _hashes(self, names: Sequence[str]) -> dict[str, str | None]:
        files = {name: self.path.parent / name for name in names}
        return {name: sha256_of(file) if file.is_file() else None for name, file in files.items()}


def refuse_changes(folder: Path, bundles: Path, stages: Sequence[Stage]) -> None:
    """Refuse to repeat, in its place, a stage that has run or was begun with other options or configurations.

    Args:
        folder: of the run.
        bundles: where configurations are copied from that the folder lacks.
        stages: of the run as it is asked for now.

    Raises:
        InputError: naming the options, what they were and what they are.
    """
    entries, changed = found_json(folder / "stages.json", "--folder"), dict[str, None]()
    for stage in (stage for stage in stages if stage.title in entries):
        entry = entries[stage.title]
        was, now = (_options(command) for command in (entry["command"], stage.command))
        other = {key: [options.get(key, "default") for options in (was, now)] for key in was | now}
        changed |= {f"{key.removeprefix('--')} {a} / {b}": None for key, (a, b) in other.items() if a != b}
        for name in entry["configs"].keys() & config_files(stage.command):
            file = next((place / name for place in (folder, bundles) if (place / name).is_file()), None)
            if file and entry["configs"][name] != sha256_of(file):
                changed[f"the content of {name}"] = None
    if changed:
        raise InputError(
            f"--folder: {folder} holds a run with other options (then / now): {', '.join(changed)}. Name another "
            "--folder, or repeat in this one what that changes: --replace True."
        )


def _options(command: Sequence[str]) -> dict[str, str]:
    """The options of a command, but for those that say how it is computed, not what."""
    return {key: value for key, value in zip(command[4::2], command[5::2], strict=True) if key not in HOW}


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


def digest(hashes: Mapping[str, str]) -> str:
    """One sha256 for many named ones."""
    return hashlib.sha256("\n".join(f"{name} {value}" for name, value in sorted(hashes.items())).encode()).hexdigest()
