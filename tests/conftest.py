"""Fixtures that several tests share: a small phantom, and the chain run on it once."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing.spawn
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from ufc_monai.base.errors import InputError, find_input_error, last_words
from ufc_monai.phantom.ct import make_phantom

ROOT = Path(__file__).parents[1]
NAMES = ("ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation")
SIZE = {"image_size": 32, "threads": 1}
WIDTHS = {"features": [4, 4, 8, 8, 16, 4], "norm": "batch"}
SMALL: dict[str, dict[str, Any]] = {
    "ufc_feature_vae": {
        **SIZE,
        "vae_channels": [4, 8, 8],
        "latent_size": 8,
        "epochs": 2,
        "min_steps": 1,
        "kl_warmup_epochs": 1,
    },
    "ufc_cluster_contrastive": {**SIZE, **WIDTHS, "head_hidden": 16, "embedding_size": 8, "epochs": 2, "min_steps": 1},
    "ufc_unet_segmentation": {
        **SIZE,
        **WIDTHS,
        "epochs": 2,
        "min_steps": 4,
        "val_interval": 1,
        "labelled_volumes": 2,
        "learning_rate": 0.003,
    },
}
"""Overrides that make a stage run in a second or two."""


def copy_bundles(folder: Path) -> Path:
    """The three bundles side by side in ``folder``, without what runs have left in the repository."""
    for name in NAMES:
        for part in ("configs", "docs"):
            shutil.copytree(ROOT / "bundles" / name / part, folder / name / part, dirs_exist_ok=True)
    return folder


def run_bundle(bundles: Path, name: str, configs: str, dataset_dir: Path, **overrides: Any) -> ConfigWorkflow:
    """Run a bundle in this process, the way ``python -m monai.bundle run`` does."""
    folder = bundles / name
    files = [str(folder / "configs" / f"{config}.json") for config in configs.split("+")]
    workflow = ConfigWorkflow(
        config_file=files,
        meta_file=str(folder / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer" if configs.startswith("inference") else "train",
        bundle_root=str(folder),
        dataset_dir=str(dataset_dir),
        **overrides,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def merged(name: str, *configs: str, **overrides: Any) -> ConfigParser:
    """The configuration of a bundle, to evaluate parts of."""
    parser = ConfigParser()
    parser.read_config([ROOT / "bundles" / name / "configs" / f"{config}.json" for config in configs])
    parser.update(overrides)
    return parser


@contextlib.contextmanager
def refused() -> Iterator[list[str]]:
    """Expect an InputError, wrapped by MONAI or not; its message is in the list afterwards."""
    message: list[str] = []
    with pytest.raises((InputError, RuntimeError)) as caught:
        yield message
    assert find_input_error(caught.value) is not None
    message.append(last_words(caught.value))


def run_chain(bundles: Path, dataset_dir: Path, **overrides: Any) -> None:
    """All stages up to the fine-tuned network, small."""
    first, second, third = NAMES
    run_bundle(bundles, first, "train", dataset_dir, **SMALL[first])
    run_bundle(bundles, first, "inference", dataset_dir, n_clusters=4)
    run_bundle(bundles, second, "train", dataset_dir, **SMALL[second])
    run_bundle(bundles, third, "train", dataset_dir, **{**SMALL[third], **overrides})


@pytest.fixture(autouse=True)
def _quiet_and_restored() -> Iterator[None]:
    """Bundles set threads and the deterministic switches of the whole process; a test leaves none of it behind."""
    threads, determinism = torch.get_num_threads(), torch.backends.cudnn.deterministic
    logging.getLogger("ignite").setLevel(logging.CRITICAL)
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = determinism


@pytest.fixture(scope="session")
def warm_python() -> Iterator[Path]:
    """A stand-in for the interpreter that has imported PyTorch and MONAI already; the interpreter where none can be."""
    if not hasattr(os, "pidfd_open"):
        yield Path(sys.executable)
        return
    here, python = Path(__file__).parent, sys.executable
    with tempfile.TemporaryDirectory(prefix="ufc") as name:  # the path of a socket is short
        place, warm = Path(name, "socket"), Path(name, "python")
        words = [python, "-I", "-S", str(here / "warm_client.py"), str(place)]
        warm.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        warm.chmod(0o755)
        command = [python, str(here / "warm_server.py"), str(place), str(warm)]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
            while not place.exists():
                assert server.poll() is None
                time.sleep(0.01)
            yield warm
            server.terminate()


@pytest.fixture
def warm(warm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that this test starts, and those that they start, are forked from one that has imported already.

    For tests of what programs say and write. Those of starting, of signals and of memory take the real thing.
    """
    monkeypatch.setattr(sys, "executable", str(warm_python))
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(warm_python))


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight labelled patients."""
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, patients=8, matrix=48)
    return folder


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Path:
    """The bundles' folder after all stages have run on the phantom."""
    bundles = copy_bundles(tmp_path_factory.mktemp("chain"))
    run_chain(bundles, phantom)
    return bundles
