"""Several ranks, here processes on the CPU joined by gloo, against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import NAMES, ROOT, SMALL, copy_bundles, run_bundle
from torch import nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

from ufc_monai import ranks
from ufc_monai.errors import InputError
from ufc_monai.losses import BootstrapLoss, ClusterContrastiveLoss, GatheredLoss
from ufc_monai.networks import ContrastiveNetwork, ProjectionHead, UNetEncoder

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
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(WORLD), "LOCAL_RANK": str(rank)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    views, clusters = batch()
    mine = slice(rank * SLICES // WORLD, (rank + 1) * SLICES // WORLD)
    model = DistributedDataParallel(network())
    loss = GatheredLoss(ClusterContrastiveLoss(preset))
    value = loss(model(views[:, mine].flatten(0, 1)), clusters[mine].repeat(2))
    value.backward()
    torch.save({"loss": value.detach(), **gradients(model)}, f"{folder}/{rank}.pt")
    ranks.leave()


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
    loss = ClusterContrastiveLoss("ufc")
    z, groups = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 2] * 2)
    assert torch.equal(GatheredLoss(loss)(z, groups), loss(z, groups))
    assert list(ranks.share_of(TensorDataset(z)).indices) == list(range(8))
    with pytest.raises(InputError, match="which BootstrapLoss does not know"):
        GatheredLoss(BootstrapLoss())


def torchrun(bundles: Path, name: str, configs: list[str], data: Path, **keys: object) -> None:
    files = [str(bundles / name / "configs" / f"{config}.json") for config in configs]
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={WORLD}"]
    words += ["-m", "monai.bundle", "run"]
    words += ["--config_file", str(files), "--bundle_root", str(bundles / name), "--dataset_dir", str(data)]
    for key, value in keys.items():
        words += [f"--{key}", str(value)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_chain_under_torchrun(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path / "bundles")
    vae, contrastive, unet = NAMES
    torchrun(bundles, vae, ["train", "multi_gpu_train"], phantom, **SMALL[vae])
    torchrun(bundles, vae, ["inference", "multi_gpu_inference"], phantom, n_clusters=4)
    torchrun(bundles, contrastive, ["train", "multi_gpu_train"], phantom, **SMALL[contrastive])
    torchrun(bundles, unet, ["train", "multi_gpu_train"], phantom, **SMALL[unet])
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
