"""Each bundle by itself: metadata, documented keys, MONAI's own checks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out

from ufc_monai.training.setup import check_overrides
from ufc_monai.zoo.metadata import metadata_of

BUNDLES = ROOT / "bundles"
CONFIGS = sorted(BUNDLES.glob("*/configs/*.json"))
REQUIRED = {
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"),
    *("required_packages_version", "authors", "copyright", "network_data_format"),
}
CLUSTERINGS = ("kmeans", "dbscan", "average", "complete", "standardised", "l2", "pca", "uncentred")
PATHS = ["imports", "bundle_root", "dataset_dir", "cache_dir", "output_dir", "ckpt_dir"]


def read(name: str, config: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((BUNDLES / name / "configs" / f"{config}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("name", NAMES)
def test_metadata_says_what_the_zoo_asks(name: str) -> None:
    metadata = read(name, "metadata")
    assert set(metadata) >= REQUIRED
    assert metadata["version"] in metadata["changelog"]
    assert set(metadata["network_data_format"]) == {"inputs", "outputs"}
    assert (BUNDLES / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parts[-3]}/{p.name}")
def test_configs_are_tidy(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"
    assert not re.findall(r'"/[a-z]', text)
    assert path.stem == "metadata" or max(map(len, text.splitlines())) <= 140  # metadata.json is prose


@pytest.mark.parametrize("name", NAMES)
def test_network_json_has_the_format_of_the_zoo(name: str, chain: Path) -> None:
    """The one that comes with the bundle, and the one that a training writes."""
    for bundles in (BUNDLES, chain):
        text = (bundles / name / "models" / "network.json").read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=4) + "\n"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parts[-3]}/{p.name}")
def test_every_switch_is_checked(path: Path) -> None:
    """On the command line, false is a text, and a text is true."""
    switches = {
        key for key, value in json.loads(path.read_text()).items() if isinstance(value, bool) and "::" not in key
    }
    texts = "".join(config.read_text() for config in path.parent.glob("*.json"))
    assert all(re.search(rf"base\.checked_bool\([^\"]*@{key}\b[^\"]*, '{key}'\)", texts) for key in switches)
    assert not [key for key in switches if re.search(rf"\"(\$not )?@{key}\"", texts)]


@pytest.mark.parametrize("name", NAMES)
def test_train_configs_share_their_order(name: str) -> None:
    config = read(name, "train")
    assert list(config)[: len(PATHS)] == PATHS
    assert list(config)[-3:] == ["train", "initialize", "run"] or list(config)[-4:-2] == ["train", "validate"]
    assert all("_target_" in handler for handler in config["train"]["handlers"])


OVERLAYS = ("cpu", "simclr", "evaluate", "unet_encoder", "isic", "multi_gpu_train")
OWN_KEYS = {
    "ufc_unet_segmentation/evaluate": ["network_file", "validate::structures"],
    "ufc_feature_vae/unet_encoder": ["features", "norm"],
    "ufc_feature_vae/cpu": ["features", "norm"],
    "ufc_feature_vae/multi_gpu_train": ["+imports", "train::dataloader::sampler", "+initialize", "finalize"],
    "ufc_cluster_contrastive/multi_gpu_train": ["+imports", "train::dataloader::sampler", "+initialize", "finalize"],
    "ufc_unet_segmentation/multi_gpu_train": ["+imports", "fewer_volumes_than_ranks", "+initialize", "finalize"],
    "ufc_cluster_contrastive/isic": ["second_view_blur", "second_view_solarise"],
}
"""Keys that train.json lacks: the VAE's cpu.json shares unet_encoder.json's, isic.json shares byol.json's."""


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem in OVERLAYS], ids=lambda p: f"{p.parts[-3]}/{p.name}")
def test_what_is_laid_over_train_changes_keys_that_exist(path: Path) -> None:
    """A misspelt key would be added beside the one that was meant."""
    parser = ConfigParser(read(path.parts[-3], "train"))
    own = OWN_KEYS.get(f"{path.parts[-3]}/{path.stem}", [])
    assert [key for key in json.loads(path.read_text()) if key not in parser] == own


@pytest.mark.parametrize("preset", ["train", "cpu"])
def test_unet_encoder_has_the_settings_of_stage_3(preset: str) -> None:
    """Laid over each other in the documented order, cpu.json last; else stage 3 would refuse the weights."""
    vae = {**read("ufc_feature_vae", "train"), **read("ufc_feature_vae", "unet_encoder")}
    unet = read("ufc_unet_segmentation", "train")
    if preset == "cpu":
        vae, unet = vae | read("ufc_feature_vae", "cpu"), unet | read("ufc_unet_segmentation", "cpu")
    for key in ("image_size", "window", "features", "norm"):
        assert vae[key] == unet[key]


@pytest.mark.parametrize("name", CLUSTERINGS)
def test_what_is_laid_over_inference_changes_keys_that_exist(name: str) -> None:
    laid_over = read(NAMES[0], name)
    assert laid_over.keys() <= read(NAMES[0], "inference").keys()
    assert laid_over["output_dir"] == f"$os.path.join(@bundle_root, 'eval', '{name}')"


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """What a user may override: by the order of the configurations, all from bundle_root to device."""
    keys = list(config)
    return {key: config[key] for key in keys[keys.index("bundle_root") : keys.index("device") + 1]}


def shown(value: object) -> str:
    """A default as the README shows it: JSON, a path below bundle_root, or the expression."""
    if isinstance(value, str) and value.startswith("$os.path.join(@bundle_root"):
        return "/".join(["bundle_root", *re.findall(r"'([^']*)'", value)])
    return value if isinstance(value, str) and value.startswith(("$", "@")) else json.dumps(value)


@pytest.mark.parametrize("name", NAMES)
def test_documented_keys_and_defaults(name: str) -> None:
    """The README's tables: all that train.json lets a user override, then what is other in inference.json."""
    page = (BUNDLES / name / "docs" / "README.md").read_text(encoding="utf-8")
    tables = page.split("## Keys of train.json")[1].split("## Keys of inference.json")
    train, inference = (dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", t, flags=re.MULTILINE)) for t in tables)
    expected = {key: shown(value) for key, value in settings(read(name, "train")).items()}
    assert train == expected
    other = {key: shown(value) for key, value in settings(read(name, "inference")).items()}
    assert inference == {key: value for key, value in other.items() if expected.get(key) != value}


def workflow(bundles: Path, name: str, config: str, dataset_dir: Path) -> ConfigWorkflow:
    root = bundles / name
    overrides: dict[str, Any] = {}
    if config == "train":  # the small network that the chain trained
        record = json.loads((root / "eval" / "train" / "run.json").read_text())
        overrides = {"image_size": 32}
        architecture = record["settings"]["architecture"]
        if "features" in architecture:
            overrides |= {key: architecture[key] for key in ("features", "norm")}
        else:
            overrides |= {"vae_channels": architecture["channels"]}
    return ConfigWorkflow(
        config_file=str(root / "configs" / f"{config}.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer" if config == "inference" else "train",
        bundle_root=str(root),
        dataset_dir=str(dataset_dir),
        **overrides,
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("config", ["train", "inference"])
def test_properties_are_what_monai_expects(name: str, config: str, chain: Path, phantom: Path) -> None:
    loaded = workflow(chain, name, config, phantom)
    loaded.initialize()
    assert not loaded.check_properties()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_network_maps_a_tensor_to_a_tensor(name: str, chain: Path, tmp_path: Path) -> None:
    """MONAI's own check, against metadata mended to the size of the small network; and it can be scripted."""
    root = chain / name
    network = json.loads((root / "models" / "network.json").read_text())
    metadata = metadata_of(read(name, "metadata"), network)
    size = network["preprocessing"]["image_size"]
    meta_file = tmp_path / "metadata.json"
    meta_file.write_text(json.dumps(metadata))
    config = root / "configs" / "inference.json"
    verify_net_in_out("network_def", str(meta_file), str(config), bundle_root=str(root), device="cpu")

    parser = ConfigParser()
    parser.read_config(str(config))
    parser["bundle_root"] = str(root)
    net = parser.get_parsed_content("network_def").eval()
    x = torch.rand(1, 1, size, size)
    assert torch.allclose(torch.jit.script(net)(x), net(x), atol=1e-5)


def test_a_bundle_holds_no_code() -> None:
    assert not list(BUNDLES.rglob("*.py"))
    assert {p.name for p in BUNDLES.iterdir()} == set(NAMES)


@pytest.mark.parametrize("turn", [[[0, 1], [1, 1], [2, 1]], [[1, -1], [0, 1], [2, -1]]], ids=["as image", "turned"])
def test_evaluation_meets_labels_stored_in_another_orientation(turn: list[list[int]], tmp_path: Path) -> None:
    """A stand-in for the network knows the structure, which is bright: Dice has to be nearly 1."""
    image = np.full((32, 32, 6), -250, dtype=np.int16)
    image[4:16, 6:14, 1:3] = 650
    affine = np.diag([-1.0, -1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(image, affine), tmp_path / "image.nii.gz")
    label = nib.Nifti1Image((image > 0).astype(np.uint8), affine).as_reoriented(turn)
    nib.save(label, tmp_path / "label.nii.gz")
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / NAMES[2] / "configs" / f"{config}.json") for config in ("train", "evaluate")])
    preprocessing = {"image_size": 16, "window": [-250, 650], "region": None, "standardise": False}
    labels: dict[str, Any] = {"class_ids": {"bright": 1}, "background_labels": [], "ignore_id": None}
    labels["cleaning"] = {"slices": 1, "connected": [1]}
    parser.update({**labels, "preprocessing": preprocessing, "output_dir": str(tmp_path / "masks")})
    parser["architecture"] = {"in_channels": 1}
    before, after = (parser.get_parsed_content(f"validate::{part}processing") for part in ("pre", "post"))
    item = before({key: str(tmp_path / f"{key}.nii.gz") for key in ("image", "label")})
    item = after(item | {"pred": torch.cat([1 - item["image"], item["image"]])})
    pred, reference = item["pred"], item["label"]
    assert pred.dtype == reference.dtype == torch.uint8  # class maps, of one byte a voxel
    assert 2 * (pred * reference).sum() / (pred.sum() + reference.sum()) > 0.9


@pytest.mark.parametrize("overlay", sorted(BUNDLES.glob("*/configs/*.json")), ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_no_configuration_of_ours_is_taken_for_misspelt(overlay: Path) -> None:
    if overlay.stem != "metadata":
        base = overlay.with_name("inference.json" if "inference" in overlay.stem else "train.json")
        check_overrides(["monai.bundle", "run", "--config_file", str([str(base), str(overlay)])])
