"""A training with a second, unlabelled loader and a second term of the loss is one small file over train.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NAMES, SMALL, refused, run_bundle
from monai.bundle import ConfigParser
from test_resume import PowerCutError, alike, cut_off_at, forget_random_states, read
from torch import Tensor, nn

from ufc_monai.data.slices import SliceDataset
from ufc_monai.planning.measure import measure_step

UNET = NAMES[2]


class Certainty(nn.Module):
    """The mean entropy of a pixel's classes: a network that is certain of unlabelled slices has a small one."""

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        entropy: Tensor = torch.special.entr(logits.softmax(dim=1)).sum(dim=1).mean()
        return entropy


def overlay(train: dict[str, Any]) -> dict[str, Any]:
    """What a method writes into its file."""
    return {
        "unlabelled": {
            "preprocessing": {
                "_target_": "Compose",
                "transforms": "$transforms.slice_chain(@preprocessing, @architecture['in_channels'], @dataset_dir)",
            },
            "dataset": {
                "_target_": "ufc_monai.data.slices.SliceDataset",
                "data": "$@split.unlabelled(@fold, @labelled_volumes, @label_draw, @label_order_path)",
                "transform": "@unlabelled::preprocessing",
                "cache_dir": "@cache_dir",
            },
            "dataloader": {
                "_target_": "DataLoader",
                "dataset": "@unlabelled::dataset",
                "batch_size": 12,
                "shuffle": True,
                "generator": "$torch.Generator().manual_seed(@seed)",
            },
        },
        "train::trainer::train_data_loader": {
            "_target_": "ufc_monai.training.loaders.CombinedLoader",
            "loaders": {"labelled": "@train::dataloader", "unlabelled": "@unlabelled::dataloader"},
        },
        "train::trainer::prepare_batch": {
            "_target_": "ufc_monai.training.loaders.PrepareCombinedBatch",
            "parts": {
                "labelled": train["train"]["trainer"]["prepare_batch"],
                "unlabelled": {
                    "_target_": "ufc_monai.training.loaders.PrepareBatch",
                    "target_key": "image",
                    "transform": {
                        "_target_": "ufc_monai.transforms.batch.BatchAugmentd",
                        "keys": "image",
                        "augment": "@augment",
                    },
                },
            },
        },
        "train::trainer::loss_function": {
            "_target_": "ufc_monai.losses.protocol.CombinedLoss",
            "terms": {"labelled": "@loss", "unlabelled": {"_target_": f"{__name__}.Certainty"}},
            "weights": {"unlabelled": 0.1},
        },
    }


@pytest.fixture(scope="module")
def bundles(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles after stage 2, with the method's file."""
    copy = tmp_path_factory.mktemp("several") / "bundles"
    shutil.copytree(chain, copy)
    configs = copy / UNET / "configs"
    train = json.loads((configs / "train.json").read_text())
    (configs / "unlabelled.json").write_text(json.dumps(overlay(train)))
    return copy


def fine_tune(bundles: Path, folder: Path, data: Path, **overrides: Any) -> None:
    where = {"output_dir": str(folder / "out"), "ckpt_dir": str(folder / "models"), "checkpoint_seconds": 0}
    keys = {**SMALL[UNET], "norm": ["instance", {"affine": True}], **where, **overrides}
    run_bundle(bundles, UNET, "train+unlabelled", data, pretrained_path="none", **keys)


def test_it_trains_and_resumes_bit_by_bit(
    bundles: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fine_tune(bundles, tmp_path / "whole", phantom)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert line["loss"] == pytest.approx(line["labelled"] + 0.1 * line["unlabelled"], rel=1e-5)
        assert line["unlabelled"] > 0
    with monkeypatch.context() as context, pytest.raises((PowerCutError, RuntimeError)):
        cut_off_at(context, lines[0]["iteration"] + 2)
        fine_tune(bundles, tmp_path / "cut", phantom)
    forget_random_states()
    fine_tune(bundles, tmp_path / "cut", phantom, resume="True")
    whole, resumed = (read(tmp_path / kind) for kind in ("whole", "cut"))
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert alike(whole[key], resumed[key]), key


def test_a_loss_that_is_not_finite_names_the_slices_of_its_loader(
    bundles: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = SliceDataset.__getitem__

    def broken(self: SliceDataset, index: Any) -> Any:
        item = get(self, index)
        return item if "label" in item else item | {"image": item["image"] * torch.nan}

    monkeypatch.setattr(SliceDataset, "__getitem__", broken)
    with refused() as message:
        fine_tune(bundles, tmp_path, phantom)
    split = json.loads((bundles / NAMES[0] / "eval" / "split.json").read_text())
    labelled = split["folds"][0]["label_orders"][0][: SMALL[UNET]["labelled_volumes"]]
    assert "the loss is nan at step 1 (epoch 1), on the unlabelled slices " in message[0]
    assert not any(image in message[0] for image in labelled)


def test_its_step_is_measured(bundles: Path, phantom: Path) -> None:
    def memory(batch_size: int) -> int:
        configs = bundles / UNET / "configs"
        parser = ConfigParser()
        parser.read_config([str(configs / f"{name}.json") for name in ("train", "unlabelled")])
        changes = {"bundle_root": str(bundles / UNET), "dataset_dir": str(phantom), "pretrained_path": "none"}
        parser.update({**SMALL[UNET], **changes, "unlabelled::dataloader::batch_size": batch_size})
        measured = measure_step(parser)
        assert measured.step > 0
        return measured.memory

    assert memory(64) > memory(8) + 56 * 32 * 32 * 4, "the slices of the second loader count"
