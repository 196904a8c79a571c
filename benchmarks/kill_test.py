"""Kill trainings at random moments, go on with them, and compare what they leave with runs that were not killed.

The three stages, fine-tuning with rounds of self-training and a study run on synthetic patients, each by its own
command, and get SIGKILL while they start, train, validate or write. ``python benchmarks/kill_test.py --kills 20`` takes
some minutes; it exits with 1 if a bit differs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.stages import RESUME, bundle_command

ROOT = Path(__file__).parents[1] / "bundles"
SIZE: dict[str, Any] = {"image_size": 32, "threads": 1, "device": "cpu", "checkpoint_seconds": 0, "min_steps": 1}
WIDTHS: dict[str, Any] = {"features": [4, 4, 8, 8, 16, 4], "norm": "batch"}
SETTINGS: dict[str, dict[str, Any]] = {
    VAE: {**SIZE, "vae_channels": [4, 8, 8], "latent_size": 8, "kl_warmup_epochs": 3},
    CONTRASTIVE: {**SIZE, **WIDTHS, "head_hidden": 16, "embedding_size": 8, "batch_size": 24},
    UNET: {**SIZE, **WIDTHS, "labelled_volumes": 2, "val_interval": 2},
}
ROUNDS: dict[str, Any] = {"warm_up_steps": 2, "round_steps": 2}
WITH_OPTIONS = ("threads", "device", "labelled_volumes")
"""Keys that are options of ``study``."""
STUDY = ("--methods", "random,ufc", "--budgets", "1", "--folds", "1", "--seeds", "1", "--init_seeds", "1")
TIMES = ("seconds", "started", "finished", "resumed", "command")


def main() -> int:
    """Kill and compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--methods", default="", help="of stage 2, beside ufc: moco,byol,glcl")
    parser.add_argument("--only", choices=("stages", "study"), help="that part of the kills")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    drawn = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for bundle in BUNDLES:
            shutil.copytree(ROOT / bundle / "configs", folder / bundle / "configs")
        make_phantom(folder / "data", patients=8, matrix=40)
        stages = [(VAE, ()), (CONTRASTIVE, ()), *((CONTRASTIVE, (m,)) for m in chosen.methods.split(",") if m)]
        stages += [(UNET, ()), (UNET, ("self_training",))]
        n = len(stages) + 1  # and the study
        *shares, of_study = (chosen.kills * (i + 1) // n - chosen.kills * i // n for i in range(n))
        good = True
        for (bundle, method), kills in zip(stages, shares, strict=True) if chosen.only != "study" else ():
            good &= try_stage(folder, bundle, method, kills, chosen.epochs, drawn)
            if (bundle, method) == (VAE, ()):
                run(
                    folder, bundle_command(VAE, ["inference"], "data", {"n_clusters": 4, "threads": 1, "device": "cpu"})
                )
        if chosen.only != "stages":
            good &= try_study(folder, of_study, drawn)
    kills = {"stages": sum(shares), "study": of_study}.get(chosen.only, chosen.kills)
    print(f"RESULT kills={kills} same={int(good)}")
    return 0 if good else 1


def try_stage(folder: Path, bundle: str, method: Sequence[str], kills: int, epochs: int, drawn: random.Random) -> bool:
    """Train without a kill, then with some, each at its own moment; whether both leave the same."""

    def place(kind: str) -> dict[str, str]:
        if kind == "whole" and not method:  # where the next stage looks
            return {"output_dir": f"{bundle}/eval/train", "ckpt_dir": f"{bundle}/models"}
        return {key: f"{bundle}/{kind}{''.join(method)}/{key}" for key in ("output_dir", "ckpt_dir")}

    def command(kind: str) -> tuple[str, ...]:
        settings = {**SETTINGS[bundle], **(ROUNDS if "self_training" in method else {}), "epochs": epochs}
        return bundle_command(bundle, ["train", *method], "data", {**settings, **place(kind)})

    began = time.monotonic()
    run(folder, command("whole"))
    seconds = time.monotonic() - began
    whole, log = (folder / place(kind)["output_dir"] / "metrics.jsonl" for kind in ("whole", "killed"))
    epoch_seconds = statistics.fmean(json.loads(line)["seconds"] for line in whole.read_text().splitlines())
    moments = sorted(drawn.uniform(-1, epochs) for _ in range(kills))  # in epochs; below 0: while it starts
    for moment in moments:
        delay = drawn.uniform(0, seconds / 2 if moment < 0 else epoch_seconds)
        while not kill_at(folder, (*command("killed"), *RESUME), log, int(moment), delay):
            for path in place("killed").values():  # it was complete already: once more from the beginning
                shutil.rmtree(folder / path)
    run(folder, (*command("killed"), *RESUME))
    one, other = (left(folder, **place(kind)) for kind in ("whole", "killed"))
    differ = [key for key in one if not alike(one[key], other.get(key))]
    shown = ", ".join(f"{moment:.1f}" for moment in moments)
    report(f"{' '.join([bundle, *method])}: killed at {shown} of {epochs} epochs: {differ or 'same bits'}")
    return not differ


def try_study(folder: Path, kills: int, drawn: random.Random) -> bool:
    """Do a study without a kill, then with some; whether both leave the same."""
    kept = {b: {k: v for k, v in keys.items() if k not in WITH_OPTIONS} for b, keys in SETTINGS.items()}
    keys = [f"{b}.{k}={v!r}" for b in BUNDLES for k, v in {**kept[b], "epochs": 2}.items()]
    sets = [word for key in keys for word in ("--set", key)]

    def command(kind: str) -> tuple[str, ...]:
        words = ("python", "-m", "ufc_monai", "study", "--dataset_dir", "data", "--folder", kind, "--preset", "cpu")
        return (*words, "--threads", "1", "--device", "cpu", *STUDY, *sets)

    began = time.monotonic()
    run(folder, command("study_whole"))
    seconds, moments = time.monotonic() - began, [drawn.random() for _ in range(kills)]
    for moment in moments:
        while not kill_after(folder, command("study_killed"), moment * seconds):
            shutil.rmtree(folder / "study_killed")  # it was complete already: once more from the beginning
    run(folder, command("study_killed"))
    one, other = (study_left(folder / kind) for kind in ("study_whole", "study_killed"))
    differ = [key for key in one if not alike(one[key], other.get(key))]
    shown = ", ".join(f"{100 * moment:.0f}" for moment in moments)
    report(f"study: killed after {shown} % of its time: {differ or 'same bits'}")
    return not differ


def kill_after(folder: Path, words: Sequence[str], seconds: float) -> bool:
    """Start a command and kill it; whether it still ran. What it has started ends with it, a little later."""
    with start(folder, words) as program:
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(seconds)
        program.send_signal(signal.SIGKILL)
    time.sleep(2)
    return program.returncode == -signal.SIGKILL


def study_left(folder: Path) -> dict[str, Any]:
    """The table of a study, and the weights and masks' figures of all its runs."""
    found: dict[str, Any] = {"study.csv": (folder / "study.csv").read_bytes()}
    for file in sorted(folder.glob("runs/**/model.pt")):
        found[str(file.relative_to(folder))] = torch.load(file, weights_only=True)
    return found


def kill_at(folder: Path, words: Sequence[str], log: Path, epochs: int, delay: float) -> bool:
    """Start a training and kill it some seconds after its first epochs; whether it still ran."""
    with start(folder, words) as program:
        while program.poll() is None and lines(log) < epochs:
            time.sleep(0.005)
        time.sleep(delay)
        program.send_signal(signal.SIGKILL)
    return program.returncode == -signal.SIGKILL


def lines(log: Path) -> int:
    """Epochs that a training has logged."""
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def run(folder: Path, words: Sequence[str]) -> None:
    """Run a command to its end."""
    with start(folder, words) as program:
        if program.wait():
            said = (folder / "log.txt").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"exit code {program.returncode}: {' '.join(words)}\n{said}")


def start(folder: Path, words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command; what it says goes to a log."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1"}
    with open(folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *words[1:]], cwd=folder, env=environment, stdout=log, stderr=log
        )


def left(folder: Path, output_dir: str, ckpt_dir: str) -> dict[str, Any]:
    """What a training left, but for times and places."""
    found: dict[str, Any] = {
        file.name: torch.load(file, weights_only=True) for file in sorted((folder / ckpt_dir).glob("*.pt"))
    }
    for state in found.values():
        state.pop("seconds", None)
    found["network.json"] = json.loads((folder / ckpt_dir / "network.json").read_text())
    for log in sorted((folder / output_dir).rglob("metrics.jsonl")):
        epochs = [json.loads(line) for line in log.read_text().splitlines()]
        found[str(log.relative_to(folder / output_dir))] = [
            {key: value for key, value in epoch.items() if key not in TIMES} for epoch in epochs
        ]
    for labels in sorted((folder / output_dir).rglob("round.json")):
        found[str(labels.relative_to(folder / output_dir))] = json.loads(labels.read_text())
    found["results"] = json.loads((folder / output_dir / "run.json").read_text())["results"]
    return found


def alike(one: Any, other: Any) -> bool:
    """Whether two nested values are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def report(line: str) -> None:
    """Say it at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
