"""``segment`` takes the start of fine-tuning that validated better, or the one that is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES

from ufc_monai.__main__ import main
from ufc_monai.base.chain import FINE_TUNING, RANDOM_FINE_TUNING
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.commands.segment import _find_arm


def two_starts(chain: Path, folder: Path, **dice: float) -> Path:
    """A run with both starts, by validation Dice; the random one has other ids, and sees the first structure alone."""
    bundle = folder / NAMES[2]
    shutil.copytree(chain / NAMES[2], bundle, ignore=shutil.ignore_patterns("cache", "eval"))
    shutil.copytree(bundle / "models", bundle / "models_random")
    for name, place in (("pretrained", "models"), ("random", "models_random")):
        path = bundle / place / "network.json"
        content = json.loads(path.read_text())
        content["chosen"] = {"epoch": 1, **({"val_mean_dice": dice[name]} if dice else {})}
        if name == "random":
            content["labels"] = {key: n for n, key in enumerate(content["labels"], start=1)}
            weights = torch.load(path.with_name("model.pt"), weights_only=True)
            last = weights["final_conv.bias"]
            weights["final_conv.bias"] = torch.where(torch.arange(len(last)) == 1, 1e4, 0.0)
            torch.save(weights, path.with_name("model.pt"))
            content["model_sha256"] = sha256_of(path.with_name("model.pt"))
        path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("dice", "words", "taken"),
    [
        ({"pretrained": 0.5, "random": 0.6}, [], "random"),
        ({"pretrained": 0.6, "random": 0.5}, [], "pretrained"),
        ({"pretrained": 0.6, "random": 0.5}, ["--arm", "random"], "random"),
        ({}, [], "pretrained"),
    ],
)
def test_of_two_starts_the_better_one_segments_unless_one_is_asked_for(
    dice: dict[str, float],
    words: list[str],
    taken: str,
    chain: Path,
    phantom: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = two_starts(chain, tmp_path / "run", **dice)
    scan = next(phantom.glob("*_image.nii.gz"))
    with caplog.at_level("INFO"):
        assert main(["segment", "--weights", str(run), *words, str(scan), str(tmp_path / "out")]) == 0
    assert f"weights: {taken} (validation Dice: pretrained " in caplog.text
    assert ("1 left_ventricle" in caplog.text) == (taken == "random")
    (mask,) = (tmp_path / "out").glob("*_seg.nii.gz")
    assert (set(np.unique(nib.load(mask).dataobj).tolist()) == {0, 1}) == (taken == "random")  # 0 around the body


def test_a_start_that_there_is_not_is_refused(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", "--weights", str(chain), "--arm", "random", str(phantom), str(tmp_path / "out")]) == 1
    assert "has no weights of the arm random, or they are out of date. Run with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("own", "other", "taken"),
    [
        ({}, {}, "models_random"),
        ({}, {"status": "started"}, "models"),
        ({}, {"asked": {"data": {"labels": "of before"}}}, "models"),
        ({"status": "started"}, {}, "models_random"),
        ({"status": "started"}, {"status": "started"}, "models"),
    ],
)
def test_a_start_that_is_out_of_date_is_not_taken(
    own: dict[str, Any], other: dict[str, Any], taken: str, chain: Path, tmp_path: Path
) -> None:
    """The random one validated better, perhaps in an earlier run and on other labels."""
    run = two_starts(chain, tmp_path, pretrained=0.5, random=0.6)
    for stage, change in ((FINE_TUNING, own), (RANDOM_FINE_TUNING, other)):
        (run / stage.record).parent.mkdir(parents=True)
        record = {"status": "complete", "asked": {"data": {"labels": "of now"}}, **change}
        (run / stage.record).write_text(json.dumps(record))
    assert _find_arm(run / NAMES[2], None).name == taken
    if other:
        with pytest.raises(InputError, match="has no weights of the arm random, or they are out of date"):
            _find_arm(run / NAMES[2], "random")
