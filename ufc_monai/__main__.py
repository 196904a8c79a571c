"""``python -m ufc_monai``: what surrounds the bundles."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from ufc_monai.base.errors import last_words
from ufc_monai.commands.arguments import parse, run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is shown as one line, an :class:`InputError` as its message.

    ``UFC_TRACEBACK=1`` in the environment raises it instead.

    Returns:
        The exit code.
    """
    command, given = parse(arguments)
    folder = given.get("folder")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("ufc_monai").setLevel(logging.INFO)
    try:
        code = run_command(command, given)
        return code if isinstance(code, int) else 0
    except Exception as e:
        if os.environ.get("UFC_TRACEBACK") == "1":
            raise
        sys.stderr.write(f"error: {last_words(e, folder)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on from here\n")
        return 130


if __name__ == "__main__":
    # threads that spin while they wait slow busy processes many times over; read when PyTorch is loaded: not yet
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.raiseExceptions = False  # of a pipe that its reader has closed, as "| head" does
    sys.exit(main())
