"""What a user of the command line sees when something does not fit."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from ufc_monai.errors import InputError

__all__ = ["checked_bool", "find_input_error", "readable_errors"]


def readable_errors() -> None:
    """Show an :class:`InputError` that ends the process as its one or two lines, without a traceback.

    Called first in a bundle's ``initialize``. It changes what is printed, never what is raised; the exit code stays 1.
    ``UFC_TRACEBACK=1`` in the environment brings the traceback back.
    """
    if os.environ.get("UFC_TRACEBACK") != "1":
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


def find_input_error(error: BaseException | None) -> InputError | None:
    """The InputError among the causes of an error, if any: MONAI wraps what configurations raise."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__ or error.__context__
    return error


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    reason = find_input_error(error)
    if reason is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        sys.stderr.write(f"error: {reason}\n")
