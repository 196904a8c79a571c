"""Every method of stage 2 by naming its file: it trains, and fine-tuning takes its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused, run_bundle

from ufc_monai.__main__ import main
from ufc_monai.artifacts.transfer import read_network
from ufc_monai.base.bundles import laid_over, methods
from ufc_monai.commands.segment import segment

VAE, CONTRASTIVE, UNET = NAMES
METHODS = methods(ROOT / "bundles")
CHAINS = ("ufc", "simclr", "moco", "glcl", "ufc_dense", "local_discrimination", "shape_prior")
"""One method of each kind goes through all that follows; the others differ from these in their loss alone."""
DENSE = ("glcl", "ufc_dense", "local_discrimination", "shape_prior")
"""Methods that pretrain the decoder, too."""
BATCH = {"batch_size": 12}


@pytest.fixture(scope="module")
def bundles(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles after stage 1."""
    copy = tmp_path_factory.mktemp("variants") / "bundles"
    shutil.copytree(chain, copy)
    return copy


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six grey pictures, and where their split shall be, beside copies of the bundles."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for i in range(6):
        pixels = generator.integers(0, 255, (40, 40), dtype=np.uint8)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels), folder / f"picture{i}.png")
    return folder, copy_bundles(tmp_path_factory.mktemp("picture_bundles")) / "split.json"


def pretrain(bundles: Path, folder: Path, method: str, data: Path, **overrides: Any) -> Path:
    """Run stage 2 with a method's file; the folder of its weights."""
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models")}
    run_bundle(
        bundles,
        CONTRASTIVE,
        "+".join(["train", *laid_over(method)]),
        data,
        **{**SMALL[CONTRASTIVE], **BATCH, **where, **overrides},
    )
    return folder / "models"


@pytest.mark.parametrize("method", [*METHODS, "moco+ufc"])
def test_trains(method: str, bundles: Path, phantom: Path, tmp_path: Path) -> None:
    models = pretrain(bundles, tmp_path, method, phantom, epochs=1)
    (line,) = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert line["effective_rank"] > 1
    assert np.isfinite(line["loss"])
    torch.load(models / "checkpoint.pt", weights_only=True)
    encoder = torch.load(models / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in encoder.values())


@pytest.mark.parametrize("method", CHAINS)
def test_is_taken_over(
    method: str, bundles: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = pretrain(bundles, tmp_path, method, phantom, epochs=1)
    assert ("dense" in read_network(models, CONTRASTIVE)) == (method in DENSE)
    features = tmp_path / "features"
    run_bundle(bundles, CONTRASTIVE, "inference", phantom, ckpt_dir=str(models), output_dir=str(features))
    assert np.isfinite(np.load(features / "features.npz")["features"]).all()
    caplog.clear()
    with caplog.at_level("INFO"):
        small = {**SMALL[UNET], "output_dir": str(tmp_path / "unet"), "ckpt_dir": str(tmp_path / "unet")}
        run_bundle(bundles, UNET, "train", phantom, **small, pretrained_path=str(models / "model.pt"))
    decoder = " and 64 of 64 decoder tensors" if method in DENSE else ""
    assert f"70 of 70 encoder tensors{decoder} from" in caplog.text


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (
            "glcl",
            "this method groups slices by their partition in the volume, and this data set holds single pictures",
        ),
        ("pcl", "this method groups slices by their position in the volume, and this data set holds single pictures"),
    ],
)
def test_pictures_have_no_positions(method: str, words: str, pictures: tuple[Path, Path], tmp_path: Path) -> None:
    data, split = pictures
    with refused() as message:
        pretrain(split.parent, tmp_path, method, data, split_path=str(split))
    assert message[0].startswith(words)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "picture0.png is the only slice, and a shape is found"), (3, "the slices are empty, as of ")],
)
def test_a_shape_is_found_in_several_pictures_that_show_something(number: int, words: str, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path / "bundles")
    (tmp_path / "data").mkdir()
    for i in range(number):
        grey = np.full((40, 40), 90, np.uint8)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(grey), tmp_path / "data" / f"picture{i}.png")
    with refused() as message:
        pretrain(bundles, tmp_path, "shape_prior", tmp_path / "data", split_path=str(tmp_path / "split.json"))
    assert words in message[0]
    assert not (tmp_path / "models").exists()


def test_the_region_of_the_shape_becomes_masks(phantom: Path, tmp_path: Path) -> None:
    """By ``segment``; of the same weights as the encoder's and decoder's of stage 2."""
    bundles = copy_bundles(tmp_path / "bundles")
    folder, steps = bundles / CONTRASTIVE / "shape", {"patch_steps": 1, "region_steps": 1}
    pretrain(bundles, folder, "shape_prior", phantom, **steps)
    structure, of_stage_2 = folder / "models" / "structure", folder / "models"
    weights, others = (torch.load(f / "model.pt", weights_only=True) for f in (structure, of_stage_2))
    assert all(torch.equal(weights[name], others[name]) for name in weights.keys() | others.keys())
    known, pretraining = (json.loads((f / "network.json").read_text()) for f in (structure, of_stage_2))
    told = ("fold", "split_sha256", "pretrained_on")  # by which stage 3 refuses what has seen its test
    assert [known.get(key) for key in told] == [pretraining[key] for key in told]
    scan = next(phantom.glob("*_image.nii.gz"))
    assert main(["segment", "--weights", str(structure), str(scan), str(tmp_path / "mask.nii.gz")]) == 0
    assert {*np.unique(nib.load(tmp_path / "mask.nii.gz").dataobj)} <= {0, 1}
    assert "vessels" in (tmp_path / "quality.csv").read_text()
    assert (folder / "out" / "structure.png").is_file()
    with refused() as message:
        segment(of_stage_2, scan, tmp_path / "other.nii.gz")
    assert "describes weights of ufc_cluster_contrastive" in message[0]


def test_a_queue_needs_slices(bundles: Path, phantom: Path, tmp_path: Path) -> None:
    with refused() as message:
        pretrain(bundles, tmp_path, "moco", phantom, batch_size=200)
    assert "lower batch_size" in message[0]


def test_methods_share_everything_but_the_method() -> None:
    """No method's file touches encoder, head, schedule, batch, augmentation or seed.

    But BYOL's views are its own, and local discrimination, no method of whole slices, has its published schedule.
    """
    shared = {"encoder", "head", "features", "norm", "head_hidden", "embedding_size", "temperature", "epochs", "seed"}
    shared |= {"min_steps", "batch_size", "learning_rate", "weight_decay", "optimizer", "lr_scheduler", "views"}
    for method in set(METHODS) - {"local_discrimination", "shape_prior"}:
        keys = set(json.loads((ROOT / "bundles" / CONTRASTIVE / "configs" / f"{method}.json").read_text()))
        assert not keys & shared
        assert method == "byol" or not any(key.startswith("view_") or key == "second_views" for key in keys)


@pytest.mark.parametrize(
    ("method", "changes", "words"),
    [
        ("simclr", {"mates": "clutser"}, "mates must be cluster or position"),
        ("simclr", {"mates": "partition"}, "partition with glcl.json"),
        ("supcon_out", {"mates": "position"}, "mates position needs a mates_threshold"),
        ("pcl", {"mates_threshold": "a"}, "threshold must be above 0, got 'a'"),
        ("byol", {"loss_preset": "ufc"}, "this method contrasts nothing"),
        ("byol", {"target_momentum": 1.0}, "target_momentum must be a number between 0 and 1"),
        ("moco", {"key_momentum": "high"}, "key_momentum must be a number between 0 and 1"),
        ("moco", {"queue_size": 0}, "queue_size must be 1 or more"),
        ("local_discrimination", {"patch_steps": 0}, "patch_steps must be a whole number of 1 or more"),
        ("local_discrimination", {"region_temperature": 0}, "region_temperature must be a number above 0"),
        ("local_discrimination", {"loss_preset": "ufc"}, "this method contrasts nothing"),
        ("shape_prior", {"shape": "bones"}, "shape must be vessels, lungs or heart, got 'bones'"),
        ("shape_prior", {"shape": 3}, "shape must be a name, got 3"),
        ("shape_prior", {"shape_dir": "/nowhere"}, "shape_dir: there are no pictures or volumes in /nowhere"),
        ("shape_prior", {"shape_weight": -1}, "shape_weight must be a number of 0 or more"),
        ("ufc_dense", {"cells": 0}, "cells must be a whole number of 1 or more"),
        ("ufc_dense", {"pseudo_labels_path": "none"}, "loss_preset 'ufc' needs pseudo-labels"),
        ("glcl", {"partitions": 2.5}, "partitions must be a whole number of 2 or more"),
        ("glcl", {"local_regions": 1000}, "a map of 32 x 32 has 100"),
        ("glcl", {"local_regions": 1}, "local_regions must be a whole number of 2 or more"),
        ("glcl", {"local_region_size": 0}, "local_region_size must be a whole number of 1 or more"),
    ],
)
def test_what_a_method_refuses(
    method: str, changes: dict[str, Any], words: str, bundles: Path, phantom: Path, tmp_path: Path
) -> None:
    with refused() as message:
        pretrain(bundles, tmp_path, method, phantom, **changes)
    assert words in message[0]
    assert not (tmp_path / "out" / "run.json").exists()
