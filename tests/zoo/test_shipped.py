"""The weights in the repository's bundles: they fit, they say what they are, and nothing starts from them unasked."""

from __future__ import annotations

import configparser
import json
import logging
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT, SMALL, refused, run_bundle
from jsonschema import validate
from monai.bundle import ConfigParser, verify_net_in_out

from ufc_monai.artifacts.served import named_classes, published_network, starting_point
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.commands.run import copy_bundles
from ufc_monai.commands.segment import segment
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.zoo.archive import bundle_files
from ufc_monai.zoo.metadata import PLACEHOLDERS, bundle_metadata, metadata_of, model_card, placeholders

VAE, CONTRASTIVE, UNET = NAMES
BUNDLES = ROOT / "bundles"
SCHEMA = json.loads((Path(__file__).parent / "meta_schema_20240725.json").read_text(encoding="utf-8"))


def read(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLES / path).read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", NAMES)
def test_weights_fit_strictly_and_are_small(name: str) -> None:
    models = BUNDLES / name / "models"
    network = published_network(models, name, {})
    load_weights(network, models)
    assert (models / "model.pt").stat().st_size < 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_weights_say_that_they_are_a_demonstration(name: str, caplog: pytest.LogCaptureFixture) -> None:
    read_network(BUNDLES / name / "models", name)
    assert "is a demonstration: trained on synthetic patients" in caplog.text
    assert "**These weights are a demonstration**" in model_card(BUNDLES / name)
    assert "demonstration" in (BUNDLES / name / "docs" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_metadata_describes_them(name: str) -> None:
    metadata = read(f"{name}/configs/metadata.json")
    validate(metadata, SCHEMA)
    assert metadata["schema"].endswith("meta_schema_20240725.json")
    assert metadata == bundle_metadata(BUNDLES / name)
    assert all("a demonstration" in metadata[key] for key in ("description", "intended_use"))
    assert "synthetic" in metadata["data_source"]
    own = metadata_of(metadata, {k: v for k, v in read(f"{name}/models/network.json").items() if k != "demonstration"})
    assert not any("demonstration" in own[key] for key in ("description", "intended_use", "data_source"))
    assert set(placeholders(own | {"network": {}})) == set(PLACEHOLDERS)


@pytest.mark.filterwarnings("ignore:parsing config_file")
@pytest.mark.parametrize("name", NAMES)
def test_monai_loads_them_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        logging.root, "handlers", list(logging.root.handlers)
    )  # logging.conf puts another in their place
    network = monai.bundle.load(name, bundle_dir=str(BUNDLES), device="cpu")
    weights = torch.load(BUNDLES / name / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, weights[key]) for key, value in network.state_dict().items())
    assert capsys.readouterr().err.count("are a demonstration") == 1
    assert sys.excepthook is sys.__excepthook__


def test_a_package_keeps_saying_so_once(caplog: pytest.LogCaptureFixture) -> None:
    files = bundle_files(BUNDLES / UNET)
    assert "**These weights are a demonstration**" in files["docs/README.md"].decode()
    assert caplog.text.count("is a demonstration") == 1


@pytest.mark.parametrize("name", NAMES)
def test_required_packages_are_those_of_setup_cfg_as_pinned(name: str) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needed = re.findall(r"^[\w-]+", setup["options"]["install_requires"], flags=re.MULTILINE)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().split() if "==" in line)
    metadata = read(f"{name}/configs/metadata.json")
    versions = {"torch": metadata["pytorch_version"], "numpy": metadata["numpy_version"]}
    versions |= {"monai": metadata["monai_version"], **metadata["required_packages_version"]}
    versions.pop("ufc-monai")
    assert {package.lower(): v for package, v in versions.items()} == {n.lower(): pins[n.lower()] for n in needed}


@pytest.mark.parametrize("name", NAMES)
def test_the_zoos_own_checks_pass(name: str) -> None:
    """One tensor in, one out, as the metadata say; and it can be scripted."""
    root = BUNDLES / name
    meta, config = (str(root / "configs" / f"{part}.json") for part in ("metadata", "inference"))
    verify_net_in_out("network_def", meta, config, bundle_root=str(root), device="cpu")
    parser = ConfigParser()
    parser.read_config(config)
    parser["bundle_root"] = str(root)
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(parser.get_parsed_content("network_def"))


def test_run_copies_no_weights(tmp_path: Path) -> None:
    copy_bundles(BUNDLES, tmp_path)
    assert not list(tmp_path.rglob("models"))
    assert all((tmp_path / name / "LICENSE").is_file() for name in NAMES)


def test_stage_3_does_not_start_from_them_unasked(
    phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_bundles(BUNDLES, tmp_path)
    shutil.copytree(BUNDLES / CONTRASTIVE / "models", tmp_path / CONTRASTIVE / "models")
    with caplog.at_level(logging.INFO):
        run_bundle(tmp_path, UNET, "train", phantom, **SMALL[UNET])
    assert "the demonstration that comes with the bundle" in caplog.text
    assert "the encoder starts from random weights" in caplog.text
    assert "encoder tensors" not in caplog.text
    record = json.loads((tmp_path / UNET / "eval" / "train" / "run.json").read_text())
    assert record["inputs"]["pretrained"] is None
    assert "Started from random weights." in model_card(tmp_path / UNET)


def test_who_names_them_gets_them(phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy_bundles(BUNDLES, tmp_path)
    network = read(f"{CONTRASTIVE}/models/network.json")
    same = {"image_size": 96, "features": network["architecture"]["features"]}
    named = BUNDLES / CONTRASTIVE / "models" / "model.pt"
    keys = {**SMALL[UNET], **same, "epochs": 1, "min_steps": 1}
    with caplog.at_level(logging.INFO):
        run_bundle(tmp_path, UNET, "train", phantom, pretrained_path=str(named), **keys)
    assert f"70 of 70 encoder tensors from {named}" in caplog.text
    assert "model.pt is a demonstration" in caplog.text


@pytest.mark.parametrize(("name", "configs"), [(VAE, "inference"), (CONTRASTIVE, "probe"), (UNET, "train+evaluate")])
def test_what_a_split_guards_refuses_them(name: str, configs: str, phantom: Path, tmp_path: Path) -> None:
    """No pseudo-labels of somebody's data come from them, and no test."""
    copy_bundles(BUNDLES, tmp_path)
    shutil.copytree(BUNDLES / name / "models", tmp_path / name / "models")
    with refused() as message:
        run_bundle(tmp_path, name, configs, phantom)
    assert "is not the split that the stage before worked with" in message[0]
    assert "came with the bundle or were downloaded know other patients: train stage 1 on yours first" in message[0]


def test_a_training_takes_their_place(phantom: Path, tmp_path: Path) -> None:
    copy_bundles(BUNDLES, tmp_path)
    shutil.copytree(BUNDLES / VAE / "models", tmp_path / VAE / "models")
    run_bundle(tmp_path, VAE, "train", phantom, **SMALL[VAE])
    network = json.loads((tmp_path / VAE / "models" / "network.json").read_text())
    assert "demonstration" not in network
    assert network["architecture"]["channels"] == SMALL[VAE]["vae_channels"]


def test_segment_works_out_of_the_box(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (image,) = make_phantom(tmp_path / "scan", patients=1, labelled=0, matrix=48)
    (mask,) = segment(BUNDLES / UNET, image, tmp_path / "masks", {"threads": 1})
    assert mask.is_file()
    assert caplog.text.count("is a demonstration") == 1


def test_the_vae_comes_with_its_clusters() -> None:
    """A label server paints them; they name no patient."""
    with np.load(BUNDLES / VAE / "models" / "centroids.npz") as file:
        assert str(file["model_sha256"]) == read(f"{VAE}/models/network.json")["model_sha256"]
        assert file["patients"].tolist() == [str(n) for n in range(len(file["patients"]))]
        clusters = len(file["centroids"])
    named = read(f"{VAE}/configs/metadata.json")["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert len(named) == clusters + 1


def test_a_training_from_a_server_takes_nothing_over_from_a_demonstration_nobody_named(tmp_path: Path) -> None:
    default = BUNDLES / CONTRASTIVE / "models" / "model.pt"
    classes = {"labels": named_classes(BUNDLES / UNET)}
    assert starting_point(BUNDLES / UNET, tmp_path, "", default, default) == classes
    named = starting_point(BUNDLES / UNET, tmp_path, "", default, "elsewhere/model.pt")
    assert named["features"] == read(f"{CONTRASTIVE}/models/network.json")["architecture"]["features"]
