from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from ufc_monai.training import log
from ufc_monai.training.log import MetricsLog


def test_console_line_holds_numbers_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 13))  # 13 s between any two looks at the clock
    monkeypatch.setattr(log, "monotonic", lambda: float(next(clock)))
    engine = Engine(lambda _, batch: {"loss": torch.tensor(float(batch))})
    engine.loss_function = None
    texts = {"kl": 2, "per_dimension": [0.125, 0.25], "verdict": "fine"}
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(texts))
    MetricsLog(tmp_path).attach(engine)
    with caplog.at_level(logging.INFO, logger=log.__name__):
        engine.run([1, 2], max_epochs=3)
    first, second, last = (r.message for r in caplog.records if r.name == log.__name__)
    assert first == "epoch 1/3 | loss 1.5 | kl 2 | 13.0 s | 78 s left"  # begun at 0 s, at 39 s now
    assert second == "epoch 2/3 | loss 1.5 | kl 2 | 13.0 s | 39 s left"  # at 78 s
    assert last == "epoch 3/3 | loss 1.5 | kl 2 | 13.0 s"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[0]["per_dimension"] == [0.125, 0.25]


def test_after_a_busy_hour_the_time_left_is_that_of_the_last_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The mean of all epochs would still tell of the slow ones, and of the quick ones under a load that has begun."""
    now = 0.0
    monkeypatch.setattr(log, "monotonic", lambda: now)

    def step(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
        nonlocal now
        now += 100 if engine.state.epoch <= 30 else 1
        return {"loss": torch.tensor(float(batch))}

    engine = Engine(step)
    engine.loss_function = None
    MetricsLog(tmp_path).attach(engine)
    with caplog.at_level(logging.INFO, logger=log.__name__):
        engine.run([1], max_epochs=61)
    lines = [r.message for r in caplog.records if r.name == log.__name__]
    assert lines[59].endswith("1.0 s | 1 s left")
