"""The segmentation bundle as MONAI Label's stock app calls it: overrides, and the keys that it takes from inference.json."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, SMALL, copy_bundles, refused
from monai.bundle import ConfigParser, ConfigWorkflow

from ufc_monai.data import MMWHS_LABELS
from ufc_monai.transforms import RemapLabels

VAE, CONTRASTIVE, UNET = NAMES
SETTINGS = {
    key: SMALL[UNET][key] for key in ("image_size", "threads", "features", "norm", "learning_rate", "val_interval")
}


@pytest.fixture(scope="module")
def painted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Three volumes with masks as a client of the server paints them: the values are those of channel_def."""
    folder = tmp_path_factory.mktemp("painted")
    items = []
    for image in sorted(phantom.glob("*_image.nii.gz"))[:3]:
        label = nib.load(str(image).replace("_image", "_label"))
        indices = RemapLabels(MMWHS_LABELS, [421])(torch.as_tensor(np.asarray(label.dataobj)[None].astype(np.int16)))[0]
        path = folder / image.name
        nib.save(nib.Nifti1Image(indices.numpy().astype(np.uint8), label.affine), path)
        items.append({"image": str(image), "label": str(path)})
    return items


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The bundle alone, with the settings of the small network written into it, as its user would do."""
    root = copy_bundles(tmp_path) / UNET
    path = root / "configs" / "train.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **SETTINGS}))
    return root


def train(root: Path, training: list[Any], validation: list[Any] | None, epochs: int = 1) -> ConfigWorkflow:
    """What MONAI Label 0.8.5's BundleTrainTask hands to ``monai.bundle.run``."""
    config = json.loads((root / "configs" / "train.json").read_text())
    handlers = config["train"]["handlers"]
    if (root / "models" / "model.pt").is_file():
        loader = {"_target_": "CheckpointLoader", "load_path": str(root / "models" / "model.pt"), "strict": False}
        handlers = [{**loader, "load_dict": {"model": "$@network"}}, *handlers]
    overrides: dict[str, Any] = {"bundle_root": str(root), "device": "cpu", "train#handlers": handlers}
    overrides |= {"train#trainer#max_epochs": epochs, "train#dataset#data": training}
    if validation is not None:
        overrides["validate#dataset#data"] = validation
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "train.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        **overrides,
    )
    for step in (workflow.initialize, workflow.run, workflow.finalize):
        step()
    return workflow


def network(root: Path) -> Any:
    return json.loads((root / "models" / "network.json").read_text())


@pytest.mark.parametrize("validation", [[], None], ids=["empty", "not named"])
def test_one_or_two_labels_write_weights_and_train_twice(
    validation: list[Any] | None, bundle: Path, painted: list[dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    train(bundle, painted[:1], validation)
    assert "starts from random weights" in caplog.text
    first = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert network(bundle)["labels"] == {name: i for i, name in enumerate(MMWHS_LABELS, start=1)}
    caplog.clear()
    train(bundle, painted[:2], validation)
    assert "random weights" not in caplog.text
    second = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert first.keys() == second.keys()
    assert not torch.equal(first["final_conv.weight"], second["final_conv.weight"])


def test_with_validation_the_best_weights_are_kept(bundle: Path, painted: list[dict[str, str]]) -> None:
    train(bundle, painted[:2], painted[2:], epochs=2)
    assert network(bundle)["chosen"]["val_mean_dice"] >= 0
    record = json.loads((bundle / "eval" / "train" / "run.json").read_text())
    assert record["environment"]["training_volumes"] == "2"


def test_a_bundle_with_weights_keeps_their_network(chain: Path, painted: list[dict[str, str]], tmp_path: Path) -> None:
    """The configuration asks for another network; the one that is served is trained on. The encoder may be gone."""
    root = tmp_path / UNET
    shutil.copytree(chain / UNET, root, ignore=shutil.ignore_patterns("cache"))
    before = network(root)
    workflow = train(root, painted[:2], [])
    assert {key: network(root)[key] for key in ("architecture", "preprocessing")} == {
        key: before[key] for key in ("architecture", "preprocessing")
    }
    assert workflow.parser.get_parsed_content("optimizer").param_groups[0]["initial_lr"] == 0.0005


def test_without_weights_it_starts_from_the_encoder_beside_it(
    chain: Path, painted: list[dict[str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_bundles(tmp_path)
    shutil.copytree(chain / CONTRASTIVE / "models", tmp_path / CONTRASTIVE / "models")
    with caplog.at_level("INFO"):
        train(tmp_path / UNET, painted[:1], [])
    assert "70 of 70 encoder tensors" in caplog.text
    assert network(tmp_path / UNET)["architecture"]["features"] == SMALL[UNET]["features"]


def test_what_cannot_be_trained_is_refused(bundle: Path, chain: Path, painted: list[dict[str, str]]) -> None:
    path = bundle / "configs" / "train.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"pretrained_path": "nowhere/model.pt"}))
    with refused() as message:
        train(bundle, painted[:1], [])
    assert "no file nowhere" in message[0]
    path.write_text(json.dumps(config))
    shutil.copytree(chain / UNET / "models", bundle / "models")
    metadata = bundle / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"aorta"', '"liver"'))
    with refused() as message:
        train(bundle, painted[:1], [])
    assert "names the classes left_ventricle" in message[0]


def test_training_data_have_to_be_named(bundle: Path) -> None:
    workflow = ConfigWorkflow(str(bundle / "configs" / "train.json"), logging_file=False, bundle_root=str(bundle))
    workflow.initialize()
    with refused() as message:
        workflow.run()
    assert "dataset_dir is not set" in message[0]
    assert not (bundle / "eval").exists()


def test_a_volume_is_segmented_by_the_served_keys(chain: Path, phantom: Path) -> None:
    """Only these four keys are read, on the device given as a word; files are saved by the server itself."""
    parser = ConfigParser()
    parser.read_config(str(chain / UNET / "configs" / "inference.json"))
    parser.config |= {"bundle_root": str(chain / UNET), "device": "cpu"}
    keys = ("network_def", "preprocessing", "inferer", "postprocessing")
    net, before, inferer, after = (parser.get_parsed_content(key) for key in keys)
    net.load_state_dict(torch.load(chain / UNET / "models" / "model.pt", weights_only=True))
    image = min(phantom.glob("*_image.nii.gz"))
    item = before({"image": str(image), "image_path": str(image)})
    with torch.inference_mode():
        item["pred"] = inferer(item["image"][None], net.eval())[0]
    mask = after.transforms[0](item)["pred"]
    assert mask.shape[1:] == nib.load(image).shape
    assert set(mask.unique().tolist()) <= set(range(8))
