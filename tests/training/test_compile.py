"""The switch ``compile``: the same network, compiled in place."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import NAMES, SMALL, copy_bundles, run_bundle
from monai.networks.nets import BasicUNet
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.training.compute import compiled

FEATURES = (4, 4, 8, 8, 16, 4)


def unet() -> BasicUNet:
    torch.manual_seed(0)
    return BasicUNet(spatial_dims=2, features=FEATURES, norm="batch").to(memory_format=torch.channels_last)


def gradients(network: nn.Module) -> list[Tensor]:
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    network(images.to(memory_format=torch.channels_last)).square().mean().backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def test_off_nothing_changes_and_on_sizes_are_checked() -> None:
    network = unet()
    assert compiled(network, "false", 100) is network
    assert type(network.upcat_1) is UpCat
    with pytest.raises(InputError, match="compile: image_size must be a multiple of 16 for it; got 100"):
        compiled(network, True, 100)
    with pytest.raises(InputError, match="compile must be"):
        compiled(network, "sometimes", 96)


def test_on_names_and_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[nn.Module] = []  # the compiler itself takes minutes
    monkeypatch.setattr(nn.Module, "compile", lambda network: calls.append(network))
    network, plain = unet(), unet()
    assert compiled(network, "True", 32) is network
    assert calls == [network]
    assert list(network.state_dict()) == list(plain.state_dict())
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.forward(images), plain.forward(images))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="PyTorch compiles for CPUs with a C++ compiler")
def test_all_of_the_compiler_in_channels_last() -> None:
    # of the module itself, nothing would be left to explain
    assert torch._dynamo.explain(compiled(unet(), True, 32).forward)(torch.rand(2, 1, 32, 32)).graph_count == 1
    for one, other in zip(gradients(unet()), gradients(compiled(unet(), True, 32)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_compiled_stages_hand_over_and_go_on(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(nn.Module.compile, backend="aot_eager"))
    bundles = copy_bundles(tmp_path)
    vae, contrastive, unet = NAMES
    run_bundle(bundles, vae, "train", phantom, **SMALL[vae], compile=True)
    keys = {**SMALL[contrastive], "pseudo_labels_path": "none", "compile": "true"}
    run_bundle(bundles, contrastive, "train+simclr", phantom, **keys)
    run_bundle(bundles, unet, "train", phantom, **SMALL[unet], compile=True)
    record = json.loads((bundles / unet / "eval" / "train" / "run.json").read_text())
    assert record["environment"]["compile"] == "True"
    weights = torch.load(bundles / contrastive / "models" / "model.pt", weights_only=True)
    first = torch.load(bundles / unet / "models" / "model.pt", weights_only=True)
    assert set(weights) < set(first)
    checkpoint = torch.load(bundles / contrastive / "models" / "checkpoint.pt", weights_only=True)
    assert not any("_orig_mod" in name for name in checkpoint["network"])
    run_bundle(bundles, contrastive, "train+simclr", phantom, **keys, resume=True)
