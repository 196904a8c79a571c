"""Fine-tuning with self_training.json on the phantom, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, SMALL, refused, run_bundle
from test_resume import PowerCutError, alike, cut_off_at, forget_random_states, read

UNET = NAMES[2]
LEARNING = {
    "labels": {"left_ventricle": 500, "right_ventricle": 600},
    "background_labels": [421, 205, 420, 550, 820, 850],
    "features": [8, 8, 16, 16, 32, 8],
    "labelled_volumes": 1,
    "epochs": 24,
    "warm_up_steps": 60,
    "round_steps": 24,
    "val_interval": 6,
    "learning_rate": 0.01,
}
"""Two structures that the phantom shows well enough to be learned in seconds."""


def fine_tune(bundles: Path, folder: Path, data: Path, **overrides: Any) -> dict[str, Any]:
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models"), "checkpoint_seconds": 0}
    keys = {**SMALL[UNET], **LEARNING, **where, **overrides}
    run_bundle(bundles, UNET, "train+self_training", data, pretrained_path="none", **keys)
    rounds = sorted((folder / "out" / "unlabelled_labels").glob("round_*/round.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in rounds}


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("round_steps", [24, 2], ids=["several epochs a round", "a round an epoch"])
def test_it_trains_and_resumes_bit_by_bit(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, round_steps: int
) -> None:
    rounds = fine_tune(chain, tmp_path / "whole", phantom, round_steps=round_steps)
    assert len(rounds) == (2 if round_steps == 24 else 9)
    assert rounds["round_2"]["agreement"][1] > 0.3
    folder = tmp_path / "whole" / "out" / "unlabelled_labels"
    kept = sorted(path.parent.name for path in folder.glob("*/0"))
    assert len(kept) <= 3, "labels that no checkpoint comes back to are removed"
    record = json.loads((tmp_path / "whole" / "out" / "run.json").read_text())
    assert record["results"]["self_training"] == f"{len(rounds)} rounds"
    with monkeypatch.context() as context, pytest.raises((PowerCutError, RuntimeError)):
        cut_off_at(context, lines_of(tmp_path / "whole")[-1]["iteration"] - 10)
        fine_tune(chain, tmp_path / "cut", phantom, round_steps=round_steps)
    forget_random_states()
    assert fine_tune(chain, tmp_path / "cut", phantom, round_steps=round_steps, resume="True") == rounds
    whole, resumed = (read(tmp_path / kind) for kind in ("whole", "cut"))
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert alike(whole[key], resumed[key]), key


def test_nobody_who_is_held_out_is_given_labels(chain: Path, phantom: Path, tmp_path: Path) -> None:
    """Every training patient without a used label is, no validation or test patient, on any fold."""
    split = json.loads((chain / NAMES[0] / "eval" / "split.json").read_text())
    for fold, roles in enumerate(split["folds"]):
        rounds = fine_tune(chain, tmp_path / str(fold), phantom, fold=fold, epochs=1, min_steps=1, warm_up_steps=0)
        given = {row["image"] for row in rounds["round_1"]["volumes"]}
        used = set(roles["label_orders"][0][:1])
        patients = {*roles["training"], *split["unlabelled"]}
        assert given == {i for i, of in split["images"].items() if of["patient"] in patients} - used
        held_out = {*roles["validation"], *roles["test"]}
        assert not given & {i for i, of in split["images"].items() if of["patient"] in held_out}


def test_without_unlabelled_scans_there_is_nothing_to_learn_from(chain: Path, phantom: Path, tmp_path: Path) -> None:
    with refused() as message:
        fine_tune(chain, tmp_path, phantom, labelled_volumes=None)
    assert message[0].startswith("self_training: the label of every training scan is used")


def test_it_is_given_up_where_the_structures_collapse(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What follows is a training of full length that has seen no prediction."""
    few = {"epochs": 4, "warm_up_steps": 4, "val_interval": 1}
    fine_tune(chain, tmp_path / "whole", phantom, **few)
    assert "self-training is given up: the predictions of " in caplog.text
    assert [line["epoch"] for line in lines_of(tmp_path / "whole")] == [1, 2, 3, 4]
    record = json.loads((tmp_path / "whole" / "out" / "run.json").read_text())
    assert record["results"]["self_training"].startswith("given up, ")
    with monkeypatch.context() as context, pytest.raises((PowerCutError, RuntimeError)):
        cut_off_at(context, lines_of(tmp_path / "whole")[1]["iteration"] + 1)
        fine_tune(chain, tmp_path / "cut", phantom, **few)
    forget_random_states()
    fine_tune(chain, tmp_path / "cut", phantom, resume="True", **few)
    whole, resumed = (read(tmp_path / kind) for kind in ("whole", "cut"))
    for key in whole:
        assert alike(whole[key], resumed[key]), key
