"""``python -m ufc_monai``: what surrounds the bundles."""

from __future__ import annotations

import argparse
import logging
import sys

from ufc_monai.demo import run_demo
from ufc_monai.errors import InputError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; an :class:`InputError` is shown as its message.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m ufc_monai", description="Tools around the ufc_monai bundles.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="run the three bundles on synthetic patients and compare the results")
    demo.add_argument("--folder", default="demo", help="where data, bundles and results go (default: demo)")
    demo.add_argument("--bundles", default="bundles", help="folder of the three bundles (default: bundles)")
    demo.add_argument("--patients", type=int, default=12, help="synthetic patients (default: 12)")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        run_demo(chosen.folder, chosen.bundles, chosen.patients)
    except InputError as e:
        sys.stderr.write(f"error: {e}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
