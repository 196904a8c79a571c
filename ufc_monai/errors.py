"""The one exception that a user is meant to read."""

from __future__ import annotations

__all__ = ["InputError"]


class InputError(ValueError):
    """What the user gave does not fit: a file, a folder, a configuration key.

    The message is one or two lines and complete in itself: what was expected, what came, which file or key,
    and what to do. The bundles show it without a traceback (see ``ufc_monai.engines.console``).
    """
