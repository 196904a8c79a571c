from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from ignite.engine import Engine

from ufc_monai.training.verdict import PretrainingVerdict, pretraining_verdict


def epochs(*losses: float, chance: float = 4.55, steps: int = 480, **last: float) -> list[dict[str, float]]:
    """A history that looks sound, but for what is given."""
    sound = {"effective_rank": 11.6, "alignment": 0.23, "uniformity": -2.5}
    history = [{"loss": loss, "chance": chance, "iteration": steps * (i + 1), **sound} for i, loss in enumerate(losses)]
    return [*history[:-1], {**history[-1], **last}]


def test_a_method_without_negatives_is_judged_by_its_embeddings() -> None:
    history = [{key: value for key, value in epoch.items() if key != "chance"} for epoch in epochs(1.9, 0.4)]
    assert pretraining_verdict(history, embedding_size=128).startswith("No collapse: embeddings use 11.6 of 128")
    history[-1]["effective_rank"] = 1.1
    assert pretraining_verdict(history, embedding_size=128).startswith("The embeddings have collapsed")


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (
            epochs(4.51, 2.05),
            "Pretraining works: the loss fell from 4.51 to 2.05 (chance 4.55) and embeddings use 11.6",
        ),
        (epochs(0.9, 0.56, chance=0.9), "Pretraining works: the loss fell from 0.9 to 0.56 (chance 0.9)"),
        (epochs(2.05), "fell from 4.55 to 2.05"),
        (epochs(0.1, -0.7, chance=-0.01), "Pretraining works"),
        (epochs(4.54, 4.5), "The loss is still at its chance level (4.5, chance 4.55): train longer"),
        (epochs(0.9, 0.81, chance=0.9), "still at its chance level"),
        (epochs(-0.01, -0.01, chance=-0.01), "still at its chance level"),
        (epochs(4.54, 4.55, effective_rank=1.3), "The embeddings have collapsed (effective rank 1.3 of 128"),
        (epochs(4.54, 4.55, effective_rank=9, uniformity=-0.001), "The embeddings have collapsed"),
        (epochs(4.51, 2.05, steps=20), "Too early to say after 40 steps; judged from 200 steps on."),
        (epochs(4.55, effective_rank=1.0, steps=199), "Too early to say after 199 steps"),
        (epochs(4.51, float("nan")), "The training broke down after 960 steps"),
        (epochs(4.51, 2.05, effective_rank=float("nan")), "The training broke down"),
    ],
)
def test_one_plain_sentence(history: list[dict[str, float]], words: str) -> None:
    verdict = pretraining_verdict(history, embedding_size=128)
    assert words in verdict
    assert verdict.endswith(".")
    assert "\n" not in verdict


def test_the_sentence_is_logged_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps(epoch) for epoch in epochs(4.51, 3.0, 2.05)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    engine = Engine(lambda _engine, _batch: None)
    PretrainingVerdict(tmp_path, embedding_size=128).attach(engine)
    with caplog.at_level(logging.INFO):
        state: Any = engine.run([0, 1], max_epochs=3)
    assert state.metrics["verdict"].startswith("Pretraining works: the loss fell from 4.51 to 2.05")
    assert [r.message for r in caplog.records if r.name.endswith("verdict")] == [state.metrics["verdict"]]
