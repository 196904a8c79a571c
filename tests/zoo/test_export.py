"""The three networks as TorchScript and ONNX, by MONAI's own commands, beside PyTorch."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, run_bundle
from monai.bundle import ckpt_export, onnx_export
from numpy.typing import NDArray
from torch import Tensor, nn

from ufc_monai.artifacts.served import published_network
from ufc_monai.artifacts.transfer import load_weights
from ufc_monai.zoo.metadata import metadata_of

UNET = NAMES[2]
# torch.jit and the exporter warn of what will be some day
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
DYNAMIC = {
    "input_names": ["image"],
    "output_names": ["pred"],
    "dynamic_axes": {"image": {0: "batch"}, "pred": {0: "batch"}},
}


def arguments(chain: Path, name: str, target: Path) -> dict[str, Any]:
    """What both commands are given."""
    root = chain / name
    network = json.loads((root / "models" / "network.json").read_text())
    metadata = metadata_of(json.loads((root / "configs" / "metadata.json").read_text()), network)
    meta_file = target.with_suffix(".json")
    meta_file.write_text(json.dumps(metadata))
    return {
        "net_id": "network_def",
        "filepath": str(target),
        "ckpt_file": str(root / "models" / "model.pt"),
        "meta_file": str(meta_file),
        "config_file": str(root / "configs" / "inference.json"),
        "bundle_root": str(root),
    }


def in_pytorch(chain: Path, name: str) -> nn.Module:
    network = published_network(chain / name / "models", name, {})
    load_weights(network, chain / name / "models")
    return network.eval()


@pytest.fixture(scope="module")
def scripted(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scripted")
    for name in NAMES:
        ckpt_export(**arguments(chain, name, folder / f"{name}.ts"))
    return {name: folder / f"{name}.ts" for name in NAMES}


@pytest.fixture(scope="module")
def onnx(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A session of each network."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx")
    for name in NAMES:
        onnx_export(**arguments(chain, name, folder / f"{name}.onnx"), converter_kwargs=DYNAMIC)
    gc.collect()  # MONAI leaves a temporary file to it, and a later test would be blamed
    return {name: runtime.InferenceSession(str(folder / f"{name}.onnx")) for name in NAMES}


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_torchscript_gives_the_same(name: str, batch: int, chain: Path, scripted: dict[str, Path]) -> None:
    x = torch.rand(batch, 1, 32, 32, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = in_pytorch(chain, name)(x)
        exported = torch.jit.load(scripted[name])  # type: ignore[no-untyped-call]
        torch.testing.assert_close(exported(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_gives_the_same(name: str, batch: int, chain: Path, onnx: dict[str, Any]) -> None:
    x = torch.rand(batch, 1, 32, 32, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        expected = in_pytorch(chain, name)(x)
    (pred,) = onnx[name].run(["pred"], {"image": x.numpy()})
    np.testing.assert_allclose(pred, expected.numpy(), atol=1e-5, rtol=0)


class Session(nn.Module):
    """An ONNX session where a bundle expects its network."""

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session = session

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(["pred"], {"image": np.asarray(x)})[0])


def masks(bundles: Path, dataset_dir: Path, folder: Path, **keys: Any) -> dict[str, NDArray[Any]]:
    # an exported network computes in fp32 wherever it runs
    run_bundle(bundles, UNET, "inference", dataset_dir, output_dir=str(folder), precision="fp32", **keys)
    return {path.name: np.asarray(nib.load(path).dataobj) for path in folder.rglob("*_seg.nii.gz")}


def test_whole_volumes_get_the_same_masks(
    chain: Path, phantom: Path, scripted: dict[str, Path], onnx: dict[str, Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for image in sorted(phantom.glob("*_image.nii.gz"))[:2]:  # one of the two is stored flipped
        shutil.copy(image, data)
    expected = masks(chain, data, tmp_path / "pytorch")
    assert len(expected) == 2
    assert len(np.unique(np.concatenate([mask.ravel() for mask in expected.values()]))) > 1
    exported = {"scripted": f"$torch.jit.load({str(scripted[UNET])!r})", "onnx": Session(onnx[UNET])}
    for kind, network in exported.items():
        got = masks(chain, data, tmp_path / kind, network=network, run=["$@evaluator.run()"])
        assert all(np.array_equal(got[name], mask) for name, mask in expected.items())
