"""Any two features together: a short training leaves what both promise, or is refused in one line."""

from __future__ import annotations

import contextlib
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
    # the training that was cut off has left weights, and a server trains those on: another beginning
    frozenset({"resume", "MONAI Label"}): "checkpoint.pt is of another run (differs in model None / ",
    # it has the weights of many runs
    frozenset({"study", "MONAI Label"}): "Name a finished run's folder, not a study's.",
    # a server names its files one by one, and no other
    frozenset({"unlabelled", "MONAI Label"}): "dataset_dir is not set: name the folder of your volumes",
    # prototypes would follow other codes on each rank
    frozenset({"prototypes", "two ranks"}): "this method also trains a ContrastiveAutoEncoder, whose gradients are not",
    # the queue would hold other keys on each rank; patches are told apart within the batch of one
    frozenset({"method", "two ranks"}): "which QueueContrastiveLoss does not support. Train this method on one device.",
    frozenset({"dense", "two ranks"}): "which ShapePriorLoss does not support. Train this method on one device.",
}
"""Pairs that are refused, what the line says, and why."""
PAIRS = [pair for pair in itertools.combinations(FEATURES, 2) if pair != ("method", "dense")]  # one is stage 2's
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
    whole, again = {}, {}
    if "resume" in pair:
        start(training, cut=False)
        whole, again = weights(training), {"resume": True}
        forget(training)
        cut_off_once(training)
    if words := REFUSED.get(frozenset(pair)):
        with refused() as message:
            start(training, cut=False, **again)
        assert words in message[0]
        assert len(message[0].splitlines()) == 1
        return
    start(training, cut=False, **again)
    check(training, pair)
    assert all(torch.equal(weights(training)[name], value) for name, value in whole.items())


def cut_off_once(training: Training) -> None:
    """Behind its first checkpoint; of a study a stage gets killed, and the study ends."""
    expected = pytest.raises(Exception) if training.start != "study" else contextlib.nullcontext()  # noqa: PT011
    with expected as caught:
        STARTS[training.start](training, cut=True)
    assert caught is None or "PowerCutError" in "".join(traceback.format_exception(caught.value))
    assert list(training.folder.rglob("checkpoint.pt"))


def forget(training: Training) -> None:
    """All that the training has left."""
    for place in (*training.left, training.folder / "study"):
        shutil.rmtree(place, ignore_errors=True)
