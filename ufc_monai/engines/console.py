"""What a user of the command line sees when something does not fit."""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from collections.abc import Sequence
from types import TracebackType

from monai.bundle import ConfigParser

from ufc_monai.errors import InputError, find_input_error

__all__ = ["check_overrides", "checked_bool", "checked_share", "readable_errors"]

RUN_ARGUMENTS = {
    *("run_id", "init_id", "final_id", "workflow_name", "workflow_type", "config_file", "meta_file", "logging_file"),
    *("args_file", "tracking", "properties_path"),
}
"""What ``monai.bundle run`` takes itself."""


def readable_errors() -> None:
    """Show an :class:`InputError` that ends the process as its one or two lines, without a traceback.

    Called first in a bundle's ``initialize``. It changes what is printed, never what is raised; the exit code stays 1.
    ``UFC_TRACEBACK=1`` in the environment brings the traceback back.
    """
    if os.environ.get("UFC_TRACEBACK") != "1":
        sys.excepthook = _show


def check_overrides(arguments: Sequence[str]) -> None:
    """Refuse a misspelt key on the command line, which MONAI would accept and ignore.

    Args:
        arguments: the words behind ``python -m monai.bundle run``; without ``--config_file`` nothing is checked.

    Raises:
        InputError: naming the key, and the one that was probably meant.
    """
    keys = {word[2:].split("=")[0]: i for i, word in enumerate(arguments) if word.startswith("--")}
    if "config_file" not in keys:
        return
    word = arguments[keys["config_file"]]
    value = word.split("=", 1)[1] if "=" in word else arguments[keys["config_file"] + 1]
    files = ast.literal_eval(value) if value.startswith("[") else [value]
    known = {key for file in files for key in ConfigParser.load_config_file(file)}
    for key in keys:
        name = re.split("::|#", key.lstrip("+"))[0]
        if name not in known | RUN_ARGUMENTS:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f" Did you mean --{near[0]}?" if near else " The keys are listed in the bundle's docs/README.md."
            raise InputError(f"--{key} is no key of {', '.join(files)}.{meant}")


def checked_share(value: object, key: str) -> float:
    """A number between 0 and 1, neither of the two.

    Raises:
        InputError: naming the key otherwise.
    """
    if not isinstance(value, int | float) or not 0 < value < 1:
        raise InputError(f"{key} must be a number between 0 and 1, got {value!r}.")
    return float(value)


def checked_bool(value: object, key: str) -> bool:
    """A switch from the command line, where ``false`` arrives as the text "false", which Python holds for true.

    Args:
        value: a boolean, or the text "true" or "false" in any case.
        key: the configuration key, for the error.

    Raises:
        InputError: at anything else.
    """
    words = {"true": True, "false": False}
    if str(value).lower() not in words:
        raise InputError(f"{key} must be True or False, got {value!r}.")
    return words[str(value).lower()]


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    reason = find_input_error(error)
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("\nstopped\n")
    elif reason is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        sys.stderr.write(f"error: {reason}\n")
