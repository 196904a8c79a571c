"""Every training goes on where it was cut off, and ends with the bits of one that was not."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT, SMALL, refused, run_bundle

from ufc_monai.training.log import MetricsLog

VAE, CONTRASTIVE, UNET = NAMES
OFTEN = {"checkpoint_seconds": 0}


class PowerCutError(Exception):
    """No handler knows it: nothing is saved on the way out."""


def cut_off_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    add, steps = MetricsLog._iteration_completed, iter(range(1, 10_000))

    def add_and_count(self: MetricsLog, engine: Any) -> None:
        if next(steps) == step:
            raise PowerCutError
        add(self, engine)

    monkeypatch.setattr(MetricsLog, "_iteration_completed", add_and_count)


def train(bundles: Path, folder: Path, name: str, data: Path, configs: str, **overrides: Any) -> None:
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models")}
    run_bundle(bundles, name, configs, data, **{**SMALL[name], "epochs": 3, **OFTEN, **where, **overrides})


def forget_random_states() -> None:
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002, the global one is meant
    torch.manual_seed(99)


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def read(folder: Path) -> dict[str, Any]:
    """Everything that a training leaves, but for times."""
    files = sorted((folder / "models").glob("*.pt"))
    left: dict[str, Any] = {file.name: torch.load(file, weights_only=True) for file in files}
    for state in left.values():
        state.pop("seconds", None)
    left["network.json"] = json.loads((folder / "models" / "network.json").read_text())
    for log in sorted((folder / "out").rglob("metrics.jsonl")):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        left[str(log.relative_to(folder))] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    record = json.loads((folder / "out" / "run.json").read_text())
    return left | {key: record[key] for key in ("status", "results")}


@pytest.mark.parametrize(
    ("name", "configs", "step"),
    [
        (VAE, "train", 5),
        (VAE, "train+contrastive_ae", 11),
        pytest.param(VAE, "train+contrastive_ae+contrastive_vae", 5, marks=pytest.mark.slow),
        pytest.param(VAE, "train+contrastive_ae+contrastive_vae", 7, marks=pytest.mark.slow),
        (CONTRASTIVE, "train", 8),
        pytest.param(CONTRASTIVE, "train+moco", 13, marks=pytest.mark.slow),
        pytest.param(CONTRASTIVE, "train+byol", 13, marks=pytest.mark.slow),
        pytest.param(CONTRASTIVE, "train+glcl", 8, marks=pytest.mark.slow),
        pytest.param(CONTRASTIVE, "train+ufc_dense", 8, marks=pytest.mark.slow),
        pytest.param(CONTRASTIVE, "train+local_discrimination", 8, marks=pytest.mark.slow),
        pytest.param(CONTRASTIVE, "train+local_discrimination+shape_prior", 8, marks=pytest.mark.slow),
        (UNET, "train", 20),
    ],
)
def test_the_same_bits_as_without_a_cut(
    name: str, configs: str, step: int, chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"batch_size": 24} if name == CONTRASTIVE else {}
    train(chain, tmp_path / "whole", name, phantom, configs, **small)
    with monkeypatch.context() as context, pytest.raises((PowerCutError, RuntimeError)):
        cut_off_at(context, step)
        train(chain, tmp_path / "cut", name, phantom, configs, **small)
    saved = torch.load(tmp_path / "cut" / "models" / "checkpoint.pt", weights_only=True)
    assert saved["trainer"]["iteration"] > 0, saved["trainer"]
    checkpoint = tmp_path / "cut" / "models" / "checkpoint.pt"
    assert 0 < saved["seconds"] < 100
    torch.save({**saved, "seconds": 1000.0}, checkpoint)
    forget_random_states()
    train(chain, tmp_path / "cut", name, phantom, configs, **small, resume="True")
    assert json.loads((tmp_path / "cut" / "out" / "run.json").read_text())["seconds"] > 1000
    whole, resumed = (read(tmp_path / kind) for kind in ("whole", "cut"))
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert alike(whole[key], resumed[key]), key
    assert resumed["status"] == "complete"
    assert len(json.loads((tmp_path / "cut" / "out" / "run.json").read_text())["resumed"]) == 1


def test_what_has_ended_is_not_trained_again(chain: Path, phantom: Path, tmp_path: Path) -> None:
    train(chain, tmp_path, VAE, phantom, "train")
    before = read(tmp_path)
    train(chain, tmp_path, VAE, phantom, "train", resume=True, learning_rate=SMALL[VAE].get("learning_rate", 3e-4))
    assert alike(before, read(tmp_path))


def test_an_unfinished_run_is_not_lost_by_mistake(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context, pytest.raises((PowerCutError, RuntimeError)):
        cut_off_at(context, 5)
        train(chain, tmp_path, VAE, phantom, "train")
    checkpoint = tmp_path / "models" / "checkpoint.pt"
    content = checkpoint.read_bytes()
    for where in ({}, {"output_dir": str(tmp_path / "elsewhere")}, {"resume": "false"}):
        with refused() as message:
            train(chain, tmp_path, VAE, phantom, "train", **where)
        assert "is of an unfinished run. Go on with it (--resume True), or begin anew: name another" in message[0]
    with refused() as message:
        elsewhere = {"output_dir": str(tmp_path / "elsewhere"), "beta": 2.0}
        train(chain, tmp_path, VAE, phantom, "train", resume=True, **elsewhere)
    assert "is of another run (differs in beta 1.0 / 2.0)" in message[0]
    with refused() as message:
        train(chain, tmp_path, VAE, phantom, "train", resume="yes")
    assert "resume must be True or False, got 'yes'" in message[0]
    assert checkpoint.read_bytes() == content
    saved = torch.load(checkpoint, weights_only=True)
    torch.save({**saved, "ranks": [{"random": states} for states in saved["ranks"]]}, checkpoint)
    with refused() as message:
        train(chain, tmp_path, VAE, phantom, "train", resume=True)
    assert "was written by another version" in message[0]
    checkpoint.write_bytes(content[:1000])
    with refused() as message:
        train(chain, tmp_path, VAE, phantom, "train", resume=True)
    assert "cannot be read" in message[0]
    checkpoint.unlink()
    train(chain, tmp_path, VAE, phantom, "train")


def test_a_run_anew_leaves_no_checkpoint_of_the_one_before(chain: Path, phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(chain / VAE / "models", tmp_path / "models")
    shutil.copyfile(tmp_path / "models" / "checkpoint.pt", tmp_path / "models" / "checkpoint_assignment.pt")
    train(chain, tmp_path, VAE, phantom, "train")
    assert [path.name for path in (tmp_path / "models").glob("checkpoint*")] == ["checkpoint.pt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_costs_nothing(
    name: str, chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second save fails; with space made, the training goes on from the first."""
    write, writes = Path.write_bytes, iter(range(1, 1000))

    def fill_up(self: Path, data: Any) -> int:
        if "checkpoint" in self.name and next(writes) == 2:
            write(self, data[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", fill_up)
        with refused() as message:
            train(chain, tmp_path, name, phantom, "train")
    checkpoint = tmp_path / "models" / "checkpoint.pt"
    assert message[0].startswith(f"the disk is full: {checkpoint} was not written")
    assert "\n" not in message[0]
    saved = torch.load(checkpoint, weights_only=True)["trainer"]
    assert saved["iteration"] == saved["epoch_length"]
    assert not list(tmp_path.rglob(".*"))
    train(chain, tmp_path, name, phantom, "train", resume=True)
    assert read(tmp_path)["status"] == "complete"


def test_a_training_without_validation_says_so(phantom: Path, chain: Path, tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level("WARNING"):
        train(chain, tmp_path, UNET, phantom, "train", **{"train::handlers::3::_disabled_": True})
    said = "none; the last weights are kept, whether or not they are the best"
    assert f"validation: {said}" in caplog.text
    assert read(tmp_path)["results"]["validation"] == said
    assert read(tmp_path)["network.json"]["chosen"] == {"epoch": 3}


@pytest.mark.slow
def test_sigkill_at_random_moments() -> None:
    words = [sys.executable, "benchmarks/kill_test.py", "--kills", "5", "--epochs", "4"]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("same bits") == 5, "three stages, self-training and a study"
