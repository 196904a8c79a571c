"""The table of where a run's time went adds up, and a resumed training does not count what came before."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ufc_monai.planning.clock import Clock


def test_parts_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0, 10, 30, 60, 80])
    monkeypatch.setattr("ufc_monai.planning.clock.time.monotonic", lambda: next(times))
    train, resumed, mask = (tmp_path / name / "run.json" for name in ("train", "resumed", "mask"))
    for record, seconds, epochs in ((train, 16.0, [4, 8.0]), (resumed, 500.0, [400.0]), (mask, 15.0, [])):
        record.parent.mkdir()
        record.write_text(json.dumps({"seconds": seconds}))
        if epochs:
            lines = "".join(json.dumps({"seconds": s}) + "\n" for s in epochs)
            record.with_name("metrics.jsonl").write_text(lines)
    watch = Clock()
    watch.lap("looking at the data")
    assert watch.table() == ""
    for title, record in (("train", train), ("resumed", resumed), ("masks", mask)):
        watch.lap(title, record)
    assert [line.split("  ")[-4:] for line in map(_spaced, watch.table().splitlines()[1:])] == [
        ["10 s", "0 s", "0 s", "10 s"],
        ["20 s", "4 s", "12 s", "4 s"],
        ["30 s", "0 s", "30 s", "0 s"],
        ["20 s", "5 s", "0 s", "15 s"],
        ["80 s", "9 s", "42 s", "29 s"],
    ]


def _spaced(line: str) -> str:
    """With two spaces between columns."""
    return re.sub(" {2,}", "  ", line)
