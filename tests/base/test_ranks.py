"""Several ranks, here processes on the CPU joined by gloo, against one."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused, run_bundle
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.utils import optional_import
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from ufc_monai.artifacts.record import RunRecord
from ufc_monai.base import ranks
from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.momentum import BootstrapLoss
from ufc_monai.losses.protocol import joint_batch, of_joint_batches
from ufc_monai.networks.encoder import ContrastiveNetwork, ProjectionHead, UNetEncoder
from ufc_monai.training.checkpoint import TrainingCheckpoint
from ufc_monai.training.loaders import PrepareBatch
from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd

SLICES, WORLD = 6, 2


def network() -> nn.Module:
    torch.manual_seed(0)
    encoder = UNetEncoder(features=[4, 4, 8, 8, 8, 4], norm=("instance", {"affine": True}))
    return ContrastiveNetwork(encoder, ProjectionHead(8, 16, 8))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of each slice, (2, SLICES, 1, 32, 32), and the clusters; one of them holds all slices of rank 1."""
    views = torch.rand(2, SLICES, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    return views, torch.tensor([0, 1, 0, 2, 2, 2])


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def on_a_rank(rank: int, folder: str, preset: str) -> None:
    meet(rank, Path(folder))
    views, clusters = batch()
    mine = slice(rank * SLICES // WORLD, (rank + 1) * SLICES // WORLD)
    model = DistributedDataParallel(network())
    loss = of_joint_batches(ClusterContrastiveLoss(preset))
    value = loss(model(views[:, mine].flatten(0, 1)), clusters[mine].repeat(2))
    value.backward()
    torch.save({"loss": value.detach(), **gradients(model)}, f"{folder}/{rank}.pt")
    ranks.leave()


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("preset", ["ufc", "simclr"])
def test_a_step_on_two_ranks_is_one_with_the_joint_batch(tmp_path: Path, preset: str) -> None:
    spawn(on_a_rank, (str(tmp_path), preset), nprocs=WORLD)  # type: ignore[no-untyped-call]
    model, (views, clusters) = network(), batch()
    loss = ClusterContrastiveLoss(preset)
    value = loss(model(views.flatten(0, 1)), clusters.repeat(2))
    value.backward()
    expected = {"loss": value.detach(), **gradients(model)}
    # by the largest of all: that of a bias in front of an instance norm is 0 but for rounding
    tolerance = 1e-5 * max(float(gradient.abs().max()) for gradient in expected.values())
    for rank in range(WORLD):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=tolerance)


def test_alone_nothing_is_gathered() -> None:
    z, groups = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 2] * 2)
    assert all(map(torch.equal, joint_batch(z, groups), (z, groups)))
    assert list(ranks.share_of(TensorDataset(z)).indices) == list(range(8))
    with pytest.raises(InputError, match="which BootstrapLoss does not support"):
        of_joint_batches(BootstrapLoss())


def meet(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_RANK": str(rank)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)


class PowerCutError(Exception):
    """Nothing is saved on the way out."""


def toy_training(folder: Path, *, cut_at: int | None = None, resume: bool = False) -> list[torch.Tensor]:
    """Train a small network, whose loader and augmentation draw from generators of this rank; what it has seen."""
    augment = BatchAugment(brightness=0.5, noise=0.1, seed=ranks.rank())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    images = torch.linspace(0, 1, 12 * 16).view(12, 1, 4, 4)
    samples = [{"image": image, "label": i % 2} for i, image in enumerate(images)]
    record, parts = RunRecord(folder, "toy/train", {}), {"network": model, "optimizer": optimizer, "augment": augment}
    generator = torch.Generator().manual_seed(10 + ranks.rank())
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=3,
        train_data_loader=DataLoader(Dataset(samples), batch_size=4, shuffle=True, generator=generator),
        network=DistributedDataParallel(model) if dist.is_initialized() else model,
        loss_function=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        prepare_batch=PrepareBatch(transform=BatchAugmentd("image", augment)),
        train_handlers=[TrainingCheckpoint(folder / "checkpoint.pt", parts, record, resume, seconds=0)],
        decollate=False,
    )
    seen: list[torch.Tensor] = []

    def look(engine: SupervisedTrainer) -> None:
        if engine.state.iteration == cut_at:
            raise PowerCutError
        seen.append(engine.state.output["image"])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    trainer.run()
    return [*seen, *(p.detach().clone() for p in model.parameters())]


def resume_on_a_rank(rank: int, folder: str) -> None:
    whole, cut = Path(folder, "whole"), Path(folder, "cut")
    meet(rank, Path(folder))
    uncut = toy_training(whole)
    with contextlib.suppress(PowerCutError):
        toy_training(cut, cut_at=8)
    torch.save({"uncut": uncut, "resumed": toy_training(cut, resume=True)}, f"{folder}/{rank}.pt")
    ranks.leave()


@pytest.mark.usefixtures("warm")
def test_every_rank_resumes_with_its_own_random_states(tmp_path: Path) -> None:
    spawn(resume_on_a_rank, (str(tmp_path),), nprocs=WORLD)  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for of_rank in found:
        last = of_rank["uncut"][-len(of_rank["resumed"]) :]  # three steps of the last epoch, and the weights
        assert len(last) == 5
        assert all(map(torch.equal, last, of_rank["resumed"]))
    assert not torch.equal(found[0]["resumed"][0], found[1]["resumed"][0])
    with pytest.raises(InputError, match=r"was written on 2 rank\(s\), and now there are 1\. Start as many"):
        toy_training(tmp_path / "cut", resume=True)


def test_a_network_that_is_not_wrapped_is_refused_on_several_ranks(
    chain: Path, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: WORLD)
    with pytest.raises(InputError, match="also trains a Sequential, whose gradients are not averaged over the ranks"):
        toy_training(tmp_path)
    where = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    with refused() as message:
        run_bundle(chain, NAMES[0], "train+contrastive_ae", phantom, **SMALL[NAMES[0]], **where)
    assert message[0].startswith("multi_gpu_train.json: this method also trains a")
    assert not (tmp_path / "out").exists()


TAKING_PART = {"TrainingCheckpoint", "LossGuard", "LrScheduleHandler", "ParamSchedulerHandler", "EMAHandler"}
TAKING_PART |= {"MomentumSchedule", "FinalValidationHandler"}


def test_other_ranks_have_the_handlers_that_take_part_in_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what a handler is, not by its place: one that is disabled, or added, shifts nothing."""
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    listed = [ConfigParser.load_config_file(ROOT / "bundles" / name / "configs" / "train.json") for name in NAMES]
    lists = [config["train"]["handlers"] for config in listed] + [listed[2]["validate"]["handlers"]]
    named = {handler["_target_"] for handlers in lists for handler in handlers}
    named |= {"ignite.handlers.EMAHandler", "ufc_monai.training.schedule.MomentumSchedule", "MLFlowHandler"}
    modules = [name.rpartition(".") for name in named]
    classes = [optional_import(module or "monai.handlers", name=name)[0] for module, _, name in modules]
    handlers = [object.__new__(kind) for kind in classes]
    assert {type(handler).__name__ for handler in ranks.on_this_rank(handlers)} == TAKING_PART
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    assert ranks.on_this_rank(handlers) == handlers


def torchrun(
    bundles: Path, name: str, configs: list[str], data: Path, **keys: object
) -> subprocess.CompletedProcess[str]:
    files = [str(bundles / name / "configs" / f"{config}.json") for config in configs]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={WORLD}"]
    words += ["-m", "monai.bundle", "run"]
    words += ["--config_file", str(files), "--bundle_root", str(bundles / name), "--dataset_dir", str(data)]
    for key, value in keys.items():
        words += [f"--{key}", str(value)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=alone)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_chain_under_torchrun(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path / "bundles")
    vae, contrastive, unet = NAMES
    for name, configs, keys in (
        (vae, ["train", "multi_gpu_train"], SMALL[vae]),
        (vae, ["inference", "multi_gpu_inference"], {"n_clusters": 4}),
        (contrastive, ["train", "multi_gpu_train"], SMALL[contrastive]),
        (unet, ["train", "multi_gpu_train"], SMALL[unet]),
    ):
        done = torchrun(bundles, name, configs, phantom, **keys)
        assert done.returncode == 0, done.stderr[-3000:]
    for name in NAMES:
        record = json.loads((bundles / name / "eval" / "train" / "run.json").read_text())
        assert (record["status"], record["environment"]["ranks"]) == ("complete", WORLD)
        lines = (bundles / name / "eval" / "train" / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == SMALL[name]["epochs"]
    features = np.load(bundles / vae / "eval" / "inference" / "features.npz")
    once = tmp_path / "once"
    run_bundle(bundles, vae, "inference", phantom, n_clusters=4, output_dir=str(once))
    alone = np.load(once / "features.npz")
    assert features["ids"].tolist() == alone["ids"].tolist()
    np.testing.assert_allclose(features["features"], alone["features"], rtol=1e-4, atol=1e-5)
    where = {"output_dir": str(tmp_path / "glcl"), "ckpt_dir": str(tmp_path / "glcl")}
    done = torchrun(bundles, contrastive, ["train", "glcl", "multi_gpu_train"], phantom, **SMALL[contrastive], **where)
    assert done.returncode == 1
    assert "which GlobalLocalLoss does not support. Train this method on one device." in done.stderr
    (left,) = (tmp_path / "glcl").rglob("*")
    assert json.loads(left.read_text())["status"] != "complete"


@pytest.mark.parametrize("name", NAMES)
def test_a_rank_with_few_slices_has_a_batch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 slices on 8 ranks are 7 each: a loader that drops what does not fill a batch of 8 would be empty."""
    monkeypatch.setattr(ranks, "world_size", lambda: 8)
    config = json.loads((ROOT / "bundles" / name / "configs" / "multi_gpu_train.json").read_text())
    parser = ConfigParser({"train": {"dataset": [0] * 60}, "batch_size": 8, "imports": config["+imports"]})
    parser["drop"] = config["train::dataloader::drop_last"]
    assert parser.get_parsed_content("drop") is False
    parser["batch_size"] = 6
    assert parser.get_parsed_content("drop") is True
