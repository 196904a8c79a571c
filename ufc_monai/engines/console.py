"""What a user of the command line sees when something does not fit."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

from ufc_monai.errors import InputError, find_input_error

__all__ = ["checked_bool", "from_command_line", "readable_errors"]


def from_command_line() -> bool:
    """Whether ``python -m monai.bundle`` is what this process is for, so that it may be set up as a whole."""
    return Path(*sys.argv[:1]).parts[-3:] == ("monai", "bundle", "__main__.py")


def readable_errors() -> None:
    """Show an :class:`InputError` that ends the process as its one or two lines, without a traceback.

    Called first in a bundle's ``initialize``; a process that is not that bundle's alone stays as it is. It changes what
    is printed, never what is raised; the exit code stays 1. ``UFC_TRACEBACK=1`` in the environment brings the traceback
    back.
    """
    if from_command_line() and os.environ.get("UFC_TRACEBACK") != "1":
        sys.excepthook = _show


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
