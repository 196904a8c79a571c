"""Where the time of a run went: programs that start, training, and all else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from ufc_monai.base.files import found_json
from ufc_monai.report.page import aligned
from ufc_monai.training.log import duration

HEAD = ("where the time went", "all", "programs start", "training", "all else")


class Lap(NamedTuple):
    """A part of a run and its seconds: in all, until its program was at work, and of its epochs."""

    title: str
    passed: float
    starts: float = 0.0
    training: float = 0.0


class Clock:
    """A stop watch for the parts of a run, one behind the other."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._laps: list[Lap] = []

    def lap(self, title: str, record: Path | None = None) -> None:
        """A part has ended.

        Args:
            title: what was done.
            record: the ``run.json`` of the program that did it; ``None`` if it was no program. Epochs stand beside it.
        """
        now = time.monotonic()
        passed, self._last = now - self._last, now
        inside, training = passed, 0.0
        if record:  # of a training that was resumed, both count what came before
            inside = min(passed, found_json(record, "--folder").get("seconds", passed))
            training = min(inside, _epochs(record.with_name("metrics.jsonl")))
        self._laps.append(Lap(title, passed, passed - inside, training))

    def table(self) -> str:
        """A row a part and one of all; nothing if no program ran."""
        if not any(lap.starts for lap in self._laps):
            return ""
        sums = (sum(getattr(lap, name) for lap in self._laps) for name in Lap._fields[1:])
        shown = [
            (lap.title, *map(duration, (*lap[1:], lap.passed - lap.starts - lap.training)))
            for lap in (*self._laps, Lap("all", *sums))
        ]
        return aligned([HEAD, *shown])


def _epochs(metrics: Path) -> float:
    """Seconds of all epochs of a training, with their validation; 0 of another program."""
    if not metrics.is_file():
        return 0.0
    return sum(float(json.loads(line)["seconds"]) for line in metrics.read_text(encoding="utf-8").splitlines())
