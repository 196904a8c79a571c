"""What a user of the command line sees when something does not fit."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from ufc_monai.base.errors import InputError, last_words

_place: Path | None = None


def from_command_line() -> bool:
    """Whether ``python -m monai.bundle`` is what this process is for, so that it may be set up as a whole."""
    return Path(*sys.argv[:1]).parts[-3:] == ("monai", "bundle", "__main__.py")


def readable_errors() -> None:
    """Show an error that ends the process without its traceback.

    An :class:`InputError` is its one or two lines, any other error one line that names the log with its traceback.
    Called first in a bundle's ``initialize``; a process that is not that bundle's alone stays as it is. It changes what
    is printed, never what is raised; the exit code stays 1. ``UFC_TRACEBACK=1`` in the environment brings the traceback
    back.
    """
    if from_command_line() and os.environ.get("UFC_TRACEBACK") != "1":
        sys.excepthook = _show


def log_beside(output_dir: Path) -> None:
    """Have the traceback of an error that ends the process go to ``log.txt`` of the folder, beside ``run.json``."""
    global _place
    _place = output_dir


def checked_bool(value: object, key: str) -> bool:
    """A switch from the command line, where ``false`` arrives as the text "false", which Python holds for true.

    Args:
        value: a boolean, or the text "true" or "false" in any case.
        key: the configuration key, for the error.

    Raises:
        InputError: at anything else.
    """
    if (text := str(value).lower()) not in ("true", "false"):
        raise InputError(f"{key} must be True or False, got {value!r}.")
    return text == "true"


def _show(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    stopped = issubclass(kind, KeyboardInterrupt)
    sys.stderr.write("\nstopped\n" if stopped else f"error: {last_words(error, _place)}\n")
