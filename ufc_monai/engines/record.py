"""``run.json``: what ran, on what, with what result; and the guard against writing over another run."""

from __future__ import annotations

import datetime
import logging
import math
import os
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import ufc_monai
from ufc_monai.errors import InputError
from ufc_monai.files import read_json, sha256_of, write_json

__all__ = ["RunRecord"]

logger = logging.getLogger(__name__)

PACKAGES = ("monai", "torch", "numpy", "scipy", "scikit-learn", "pytorch-ignite")


class RunRecord:
    """The record of one run of a bundle, kept as ``run.json`` in its output folder.

    A run is known by its stage, its settings and the content of its input files. The same run may be made again in the
    same folder; another one is refused there.

    Args:
        output_dir: folder of ``run.json``.
        stage: the bundle and the configuration, e.g. ``"ufc_feature_vae/train"``.
        settings: the values that define the run; JSON values.
        inputs: files that an earlier stage wrote, by name; those that do not exist count as none.
        environment: what was found out at start: device, threads, precision.
        previous: the ``run.json`` of the stage before, named in the record.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        stage: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str | os.PathLike[str] | None] | None = None,
        environment: Mapping[str, Any] | None = None,
        previous: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = Path(output_dir) / "run.json"
        self.content: dict[str, Any] = {
            "stage": stage,
            "status": "started",
            "settings": dict(settings),
            "inputs": {name: _file(path) for name, path in (inputs or {}).items()},
            "previous_run": _file(previous),
            "environment": {key: str(value) for key, value in (environment or {}).items()},
        }

    def start(self, *, replace: bool = False) -> None:
        """Write the record as started.

        Args:
            replace: take the place of another run's record.

        Raises:
            InputError: if the folder holds the record of another run that may not be replaced.
        """
        if not replace:
            self._refuse_another_run()
        self.content |= {
            "started": _now(),
            "command": sys.argv,
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "versions": {"ufc-monai": ufc_monai.__version__, "python": platform.python_version()}
            | {name: _version(name) for name in PACKAGES},
            "seeded": torch.initial_seed(),
        }
        write_json(self.path, self.content)

    def finish(self, results: Mapping[str, Any], outputs: Mapping[str, str | os.PathLike[str]] | None = None) -> None:
        """Write the record as complete.

        Args:
            results: figures of the run; what is not a finite number, text or list of them is left out.
            outputs: files that the run wrote, by name.
        """
        began = datetime.datetime.fromisoformat(self.content["started"])
        self.content |= {
            "status": "complete",
            "finished": _now(),
            "seconds": round((datetime.datetime.now(datetime.UTC) - began).total_seconds(), 1),
            "results": {key: value for key, value in results.items() if _is_plain(value)},
            "outputs": {name: _file(path) for name, path in (outputs or {}).items()},
        }
        write_json(self.path, self.content)
        logger.info("%s complete in %.0f s: %s", self.content["stage"], self.content["seconds"], self.path)

    def _refuse_another_run(self) -> None:
        if not self.path.is_file():
            return
        there = read_json(self.path, "output_dir")
        differences = _differences(there, self.content)
        if differences:
            raise InputError(
                f"output_dir: {self.path.parent} holds another run ({there.get('stage')} of {there.get('started')}; "
                f"differs in {', '.join(differences[:4])}). Name another --output_dir, or delete {self.path} to "
                "write over it."
            )


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What distinguishes two runs, in words."""
    if one.get("stage") != other["stage"]:
        return [f"stage {one.get('stage')} / {other['stage']}"]
    found = []
    for part in ("settings", "inputs"):
        a, b = one.get(part, {}), other[part]
        for key in sorted({*a, *b}):
            x, y = a.get(key), b.get(key)
            if part == "inputs":
                x, y = (v and v["sha256"][:8] for v in (x, y))
            if x != y:
                found.append(f"{key} {x} / {y}")
    return found


def _is_plain(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, int | float) else isinstance(value, str | list)


def _file(path: str | os.PathLike[str] | None) -> dict[str, str] | None:
    if path is None or not Path(path).is_file():
        return None
    return {"path": os.path.abspath(path), "sha256": sha256_of(path)}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # what a server does not need it may lack
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
