"""The one exception that a user is meant to read, and how any error that ends a program is shown."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from ufc_monai.base.bundles import RENAMED

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system calls a full disk, or a share of it that is used up."""
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a place that may not be used."""
EXTRAS = {"mlflow": "tracking", "tensorboard": "tracking", "pandas": "study", "distributed": "study"}
"""The extra of setup.cfg that brings a package which most commands do without."""
WAY_OUT = "(A training goes on without it with --skip_bad True.)"
"""What a program that ends with a :class:`BadFileError` adds; a label server has nothing to pass."""
LONGEST = 300
"""Characters of an unexpected error's text that are shown; its log has all of it."""

TRAINED_BY_SERVER = ("monailabel", "interfaces", "utils", "app.py")
"""The program in which MONAI Label trains a bundle."""

_place: Path | None = None


class InputError(ValueError):
    """What the user gave does not fit: a file, a folder, a configuration key.

    The message is one or two lines and complete in itself: what was expected, what came, which file or key,
    and what to do. The bundles show it without a traceback (see :func:`readable_errors`).
    """


class BadFileError(InputError):
    """One volume's files are bad: a training can go on without it."""


def find_input_error(error: BaseException | None) -> InputError | None:
    """The InputError among the causes of an error, if any: MONAI wraps what configurations raise.

    A lack of memory, a full disk and a missing package are turned into one.
    """
    return next(filter(None, map(_readable, _causes(error))), None)


@contextlib.contextmanager
def unwrapped(where: str = "") -> Iterator[None]:
    """Raise the InputError that MONAI has wrapped, ``where`` in front of it; every other error passes as it is."""
    try:
        yield
    except Exception as e:
        reason = find_input_error(e)
        if reason is None or (reason is e and not where):
            raise
        raise type(reason)(f"{where}{reason}") from e


def meant(name: str, known: Collection[str], dashes: str = "", cutoff: float = 0.6) -> str | None:
    """One sentence that says which of the known names an unknown one stands for, if that can be told.

    Args:
        name: the unknown name.
        known: what it could have been: keys, options, methods.
        dashes: what stands before a name where the user types it.
        cutoff: how alike two names have to be, of 1.

    Example:
        >>> meant("epohcs", ["epochs", "seed"], "--")
        'Did you mean --epochs?'
    """
    if (renamed := RENAMED.get(name)) in known:
        return f"It is called {dashes}{renamed} now."
    near = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)
    return f"Did you mean {dashes}{near}?" if near else None


def last_words(error: BaseException, folder: Path | None = None) -> str:
    """What a program says when an error ends it; the traceback of an unexpected error goes to a file.

    Args:
        error: any.
        folder: of a run, whose ``log.txt`` takes the traceback; without one it goes to a file in the temporary folder.

    Returns:
        The InputError's message; of an unexpected error one line with its type, its text and the name of the log.
    """
    if reason := find_input_error(error):
        return f"{reason} {WAY_OUT}" if isinstance(reason, BadFileError) else str(reason)
    *_, root = _causes(error, explicit=True)  # the last that MONAI or a library has wrapped
    text = textwrap.shorten(_text(root), LONGEST, placeholder=" ...")
    return f"{type(root).__name__}: {text} ({_keep_traceback(error, folder)})"


def _causes(error: BaseException | None, explicit: bool = False) -> Iterator[BaseException]:
    """An error and those that led to it, each once: ``raise e from e`` makes an error its own cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__context__ if error.__cause__ is None and not explicit else error.__cause__


def _readable(error: BaseException) -> InputError | None:
    """An InputError, or what a user can do about an error of Python, PyTorch or the system."""
    if isinstance(error, InputError):
        return error
    text = _text(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        return InputError(
            "memory: there is not enough. Take a smaller batch_size or image_size, end other programs, or raise "
            "the limit (ulimit, container); check says how much is needed."
        )
    if isinstance(error, OSError) and error.errno in FULL:
        what = f": {error.filename} was not written" if error.filename is not None else ""
        return InputError(f"the disk is full{what}. Make space, then give the same command again.")
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename is not None:
        return InputError(
            f"{error.filename} may not be read or written ({error.strerror}). Change its permissions, or name another "
            "place."
        )
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename is not None:
        return InputError(
            f"{error.filename} exists already, or lies below a file. Move what is there, or name another place."
        )
    # MONAI's error of a missing package is no ModuleNotFoundError, and holds its words
    if isinstance(error, ImportError) and (missing := re.search(r"No module named '(?!ufc_monai)(\w+)", _text(error))):
        package = missing[1]
        what = f"'.[{EXTRAS[package]}]'" if package in EXTRAS else "."
        return InputError(
            f"the package {package} is not installed for {sys.executable}. Install ufc_monai with its requirements, in "
            f"the clone: {sys.executable} -m pip install -e {what}"
        )
    return None


def _text(error: BaseException) -> str:
    """The message of an error; an error's own code may fail."""
    try:
        return str(error)
    except Exception:
        return "without a message"


def _keep_traceback(error: BaseException, folder: Path | None) -> str:
    """Write the traceback to a log, and say where it is."""
    text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace")
    with contextlib.suppress(OSError), _open_log(folder) as log:
        log.write(text)
        return f"traceback: {os.path.abspath(log.name)}"
    return "UFC_TRACEBACK=1 in the environment shows its traceback"


def _open_log(folder: Path | None) -> IO[bytes]:
    if folder is not None:
        with contextlib.suppress(OSError):
            return open(folder / "log.txt", "ab")
    return tempfile.NamedTemporaryFile(prefix="ufc_monai_", suffix=".log", delete=False)


def from_command_line() -> bool:
    """Whether ``python -m monai.bundle`` is what this process is for, so that it may be set up as a whole."""
    return Path(*sys.argv[:1]).parts[-3:] == ("monai", "bundle", "__main__.py")


def readable_errors() -> None:
    """Show an error that ends the process without its traceback.

    An :class:`InputError` is its one or two lines, any other error one line that names the log with its traceback.
    Called first in a bundle's ``initialize``; a process that is not that bundle's alone stays as it is. It changes what
    is printed, never what is raised; the exit code stays 1. ``UFC_TRACEBACK=1`` in the environment brings the traceback
    back. A training that MONAI Label started keeps the traceback, for the server's log, and says the reason behind it:
    the server's clients are shown the last lines.
    """
    if Path(*sys.argv[:1]).parts[-4:] == TRAINED_BY_SERVER:
        sys.excepthook = _show_behind_traceback
    elif from_command_line() and os.environ.get("UFC_TRACEBACK") != "1":
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


def _show_behind_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    if reason := find_input_error(error):
        sys.stderr.write(f"error: {reason}\n")
