"""The commands of stages, as a user would type them, and what can be read from them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.base.files import inert

HOW = ("--threads", "--device", "--tracking", "--tracking_uri", "--experiment_name")
"""Options of a command by which a stage is not another one."""
RESUME = ("--resume", "True")
"""What makes a training go on."""


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
    return [part.strip("'") for part in options_of(command)["--config_file"].strip("[]").split(",")]


def is_training(command: Sequence[str]) -> bool:
    """Whether a command trains, and so can go on where it was cut off (``--resume True``)."""
    names = [Path(name).stem for name in config_files(command)]
    return names[0] == "train" and "evaluate" not in names


def shown(command: Sequence[str]) -> str:
    """A command as one would type it; lists hold single quotes and stand in double ones, if nothing speaks against."""
    return " ".join(f'"{w}"' if "'" in w and not set(w) & set('"$`\\!') else shlex.quote(w) for w in command)
