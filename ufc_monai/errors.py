"""The one exception that a user is meant to read, and how to find it behind others."""

from __future__ import annotations

__all__ = ["WAY_OUT", "InputError", "find_input_error"]

WAY_OUT = "(A training goes on without it with --skip_bad True.)"
"""What the errors about one bad file end with."""


class InputError(ValueError):
    """What the user gave does not fit: a file, a folder, a configuration key.

    The message is one or two lines and complete in itself: what was expected, what came, which file or key,
    and what to do. The bundles show it without a traceback (see ``ufc_monai.engines.console``).
    """


def find_input_error(error: BaseException | None) -> InputError | None:
    """The InputError among the causes of an error, if any: MONAI wraps what configurations raise.

    Memory that cannot be had is one, too.
    """
    while error is not None and not isinstance(error, InputError):
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _no_memory(str(error))):
            return InputError(
                "memory: there is not enough of it. Take a smaller batch_size or image_size, end other programs, or "
                "raise the limit (ulimit, container); check says how much is needed."
            )
        error = error.__cause__ or error.__context__
    return error


def _no_memory(text: str) -> bool:
    """Whether PyTorch says so, of the CPU or a GPU."""
    return "can't allocate memory" in text or "out of memory" in text
