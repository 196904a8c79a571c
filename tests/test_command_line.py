"""The command lines that users type, in a process of their own, from another folder."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NAMES, SMALL, copy_bundles

from ufc_monai.__main__ import main
from ufc_monai.phantom.ct import make_phantom

VAE, CONTRASTIVE, UNET = NAMES
pytestmark = pytest.mark.usefixtures("warm")


def run(bundles: Path, name: str, config: str, cwd: Path, **overrides: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    words += ["--config_file", str(bundles / name / "configs" / f"{config}.json"), "--bundle_root", str(bundles / name)]
    words += [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_chain_by_hand(tmp_path: Path) -> None:
    data, bundles = tmp_path / "data", copy_bundles(tmp_path / "bundles")
    make_phantom(data, patients=4, matrix=40)
    small = {**SMALL[UNET], "labelled_volumes": 1, "epochs": 1, "min_steps": 1}
    steps = [
        (VAE, "train", {**SMALL[VAE], "epochs": 1}),
        (VAE, "inference", {"n_clusters": 3}),
        (CONTRASTIVE, "train", {**SMALL[CONTRASTIVE], "epochs": 1}),
        (UNET, "train", small),
    ]
    for name, config, overrides in steps:
        done = run(bundles, name, config, tmp_path, dataset_dir=data, **overrides)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (bundles / name / "models" / "model.pt").is_file()
    assert "70 of 70 encoder tensors" in done.stderr


def truncated(folder: Path) -> None:
    for image in make_phantom(folder, patients=4, matrix=40):
        image.write_bytes(image.read_bytes()[:3000])


def misspelt_in_a_file(folder: Path) -> None:
    folder.with_name("args.json").write_text('{"epohcs": 1}')


@pytest.mark.parametrize(
    ("prepare", "overrides", "words"),
    [
        (lambda _: None, {}, ["dataset_dir is not set", "--dataset_dir DIR"]),
        (lambda folder: folder.mkdir(), {"dataset_dir": "data"}, ["holds no volumes", "data"]),
        (truncated, {"dataset_dir": "data"}, ["_image.nii.gz", "cannot be read"]),
        (lambda _: None, {"dataset_dir": "data", "epohcs": 1}, ["Did you mean --epochs?"]),
        (misspelt_in_a_file, {"dataset_dir": "data", "args_file": "args.json"}, ["Did you mean --epochs?"]),
    ],
    ids=["no dataset_dir", "empty folder", "truncated file", "misspelt key", "misspelt key in args_file"],
)
def test_errors_are_two_lines_at_most(
    tmp_path: Path, prepare: object, overrides: dict[str, object], words: list[str]
) -> None:
    assert callable(prepare)
    prepare(tmp_path / "data")
    bundles = copy_bundles(tmp_path / "bundles")
    if "epohcs" not in overrides:
        overrides = {**SMALL[VAE], "split_path": tmp_path / "split.json", **overrides}
    done = run(bundles, VAE, "train", tmp_path, **overrides)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    message = done.stderr[done.stderr.index("error: ") :]
    assert len(message.strip().splitlines()) <= 2
    for word in words:
        assert word in message
    assert not (bundles / VAE / "models").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_is_one_line_wherever_it_is_met(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("ufc_monai.commands.cut.cut", fail)
    assert main(["cut", "--k", "3"]) == 1
    full = number == errno.ENOSPC
    assert capsys.readouterr().err.startswith("error: the disk is full. Make space" if full else "error: Permission")
