from __future__ import annotations

from unittest.mock import Mock

import pytest
from ignite.engine import Engine
from monai.engines import Evaluator

from ufc_monai.training.schedule import FinalValidationHandler, epochs_for, halved


@pytest.mark.parametrize(
    ("interval", "epochs", "validated"),
    [
        (3, 7, [3, 6, 7]),
        (3, 6, [3, 6]),
        (5, 2, [2]),
        (1, 2, [1, 2]),
        (None, 80, [10, 20, 30, 40, 50, 60, 70, 80]),
        (None, 19, [3, 6, 9, 12, 15, 18, 19]),
        (None, 3, [1, 2, 3]),
    ],
)
def test_the_last_epoch_is_validated_once(interval: int | None, epochs: int, validated: list[int]) -> None:
    validator = Mock(spec=Evaluator)
    trainer = Engine(lambda *_: None)
    FinalValidationHandler(interval, validator).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert [call.args[0] for call in validator.run.call_args_list] == validated


def test_a_training_that_goes_on_is_validated_at_its_new_end() -> None:
    validator = Mock(spec=Evaluator)
    trainer = Engine(lambda *_: None)
    FinalValidationHandler(4, validator).attach(trainer)
    trainer.run([0], max_epochs=5)
    trainer.run([0], max_epochs=7)
    assert [call.args[0] for call in validator.run.call_args_list] == [4, 5, 7]


def test_epochs_beyond_those_asked_for_are_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert epochs_for(120, 1500, 24) == 120
        assert not caplog.text
        assert epochs_for(1, 1500, 24) == 63
    assert "63 instead of 1, which 24 batches an epoch take to make min_steps 1500" in caplog.text


def test_the_rate_is_halved_and_begins_anew_with_the_second_part() -> None:
    rate = halved(20, 80)
    assert [rate(step) for step in (0, 9, 10, 19)] == [1, 1, 0.5, 0.5]
    assert [rate(20 + step) for step in (0, 9, 10, 79)] == [1, 1, 0.5, 0.5**7]
    assert [halved(1, 0)(step) for step in (0, 1)] == [1, 1]
