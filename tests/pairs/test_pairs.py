"""Any two features together: a short training leaves what both promise, or is refused in one line."""

from __future__ import annotations

import itertools
import shutil
import traceback
from pathlib import Path

import pytest
import torch
from conftest import refused
from features import FEATURES, STARTS, Training, check, compose, weights

REFUSED = {
    # the server, not a split, says which files there are: who started it has to see that one is bad
    frozenset({"skip_bad", "MONAI Label"}): "ct_train_1001_image.nii.gz: cannot be read as a volume",
    # a study's runs are spread over devices, each on one; a second process finds the first at work
    frozenset({"study", "two ranks"}): "is in use (process ",
    # the queue would hold other keys on each rank
    frozenset({"method", "two ranks"}): "which QueueContrastiveLoss does not know. Train this method on one device.",
}
"""Pairs that are refused, what the line says, and why."""
PAIRS = list(itertools.combinations(FEATURES, 2))
SLOW = {"study", "two ranks"}


@pytest.fixture
def training(request: pytest.FixtureRequest, tmp_path: Path) -> Training:
    return compose(tmp_path, request.param)


@pytest.mark.usefixtures("warm")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "training",
    [pytest.param(pair, marks=[pytest.mark.slow] * bool(SLOW & {*pair}), id=" and ".join(pair)) for pair in PAIRS],
    indirect=True,
)
def test_two_features(training: Training) -> None:
    pair, start = tuple(training.features), STARTS[training.start]
    if words := REFUSED.get(frozenset(pair)):
        with refused() as message:
            start(training, cut=False)
        assert words in message[0]
        assert len(message[0].splitlines()) == 1
        return
    start(training, cut=False)
    if "resume" not in pair:
        check(training, pair)
        return
    whole = weights(training)
    forget(training)
    cut_off_once(training)
    start(training, cut=False, resume=True)
    check(training, pair)
    assert all(map(torch.equal, weights(training).values(), whole.values()))


def cut_off_once(training: Training) -> None:
    try:
        STARTS[training.start](training, cut=True)
    except Exception as e:
        assert "PowerCutError" in "".join(traceback.format_exception(e))
    else:
        assert training.start == "study"  # its stages get killed, not the study
    assert list(training.folder.rglob("checkpoint.pt"))


def forget(training: Training) -> None:
    """All that the training has left."""
    for place in (*training.left, training.folder / "study"):
        shutil.rmtree(place, ignore_errors=True)
