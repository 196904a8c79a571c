"""Packages, and what others get from them over HTTP."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import logging
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT, SMALL, WIDTHS, copy_bundles, refused, run_bundle
from jsonschema import validate

import ufc_monai
from ufc_monai.artifacts.transfer import find_pretrained
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.commands import package as command
from ufc_monai.commands.package import package
from ufc_monai.zoo.archive import bundle_files
from ufc_monai.zoo.metadata import model_card

VAE, CONTRASTIVE, UNET = NAMES
SCHEMA = json.loads((Path(__file__).parent / "meta_schema_20240725.json").read_text(encoding="utf-8"))
# MONAI warns at every configuration that it parses
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory, chain: Path) -> Path:
    """The chain's own weights, packed as version 0.2.0; without a wheel, which takes a while."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(chain, folder / "bundles")
    for name in NAMES:
        shutil.copy(ROOT / "bundles" / name / "LICENSE", folder / "bundles" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "_build_wheel", lambda _: None)
        package(folder / "bundles", folder / "dist", version="0.2.0", change="small weights")
    return folder / "dist"


@pytest.fixture
def server(dist: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(dist))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_sums_are_those_of_the_zips(dist: Path) -> None:
    sums = dict(line.split("  ")[::-1] for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert list(sums) == [f"{name}_v0.2.0.zip" for name in NAMES]
    assert all(hashlib.sha256((dist / name).read_bytes()).hexdigest() == value for name, value in sums.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_zip_holds_what_the_zoo_asks_for(name: str, dist: Path, chain: Path) -> None:
    with zipfile.ZipFile(dist / f"{name}_v0.2.0.zip") as archive:
        inside = {info.filename: archive.read(info) for info in archive.infolist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert all(path.startswith(f"{name}/") for path in inside)
    files = {path.removeprefix(f"{name}/"): content for path, content in inside.items()}
    assert set(files) >= {"LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md"}
    more = {VAE: {"models/centroids.npz"}, UNET: {"models/quality.json"}}  # which predicts Dice as the run did
    weights = {"models/model.pt", "models/network.json"} | more.get(name, set())
    assert {file for file in files if file.startswith("models/")} == weights
    assert files["models/model.pt"] == (chain / name / "models" / "model.pt").read_bytes()
    metadata = json.loads(files["configs/metadata.json"])
    validate(metadata, SCHEMA)
    assert metadata["changelog"] == {"0.2.0": "small weights", "0.1.0": "first version"}
    assert metadata["required_packages_version"]["ufc-monai"] == ufc_monai.__version__
    page = files["docs/README.md"].decode()
    assert "| epochs | 2 |" in page.split("# Performance")[1].split("\n# ")[0]
    assert "](../../" not in page
    assert "demonstration" not in page + files["configs/metadata.json"].decode()
    paths = [str(ROOT), str(chain), str(chain.parent)]
    assert not [path for path in paths if any(path.encode() in content for content in files.values())]


def test_what_only_the_trainer_can_say_is_asked_for_once(
    dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(command, "_build_wheel", lambda _: None)
    shutil.copytree(dist.parent / "bundles", tmp_path / "bundles")
    package(tmp_path / "bundles", tmp_path / "dist")
    assert caplog.text.count("not yours yet: authors, copyright, data_source, intended_use.") == 1
    caplog.clear()
    for name in NAMES:
        ours = {"authors": "A", "copyright": "A", "data_source": "40 CT of A", "intended_use": "B"}
        _change(tmp_path / "bundles" / name, **ours)
    package(tmp_path / "bundles", tmp_path / "dist")
    assert "not yours yet" not in caplog.text
    files = bundle_files(tmp_path / "bundles" / UNET, version="0.1.0", change="better")
    packed = json.loads(files["configs/metadata.json"])
    assert {**ours, "changelog": {"0.1.0": "better"}}.items() <= packed.items()


def test_a_run_that_is_not_packed_is_told_how(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata.json is a copy of the repository's, and describes the demonstration."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="python -m ufc_monai package --bundles FOLDER"):
        monai.bundle.load(UNET, bundle_dir=str(chain), device="cpu")


def test_a_version_and_a_folder_are_what_they_should_be(tmp_path: Path) -> None:
    for version in ("../0.2.0", "0.2", "new"):
        with pytest.raises(InputError, match=r"--version must be three numbers like 0\.2\.0, got "):
            package(ROOT / "bundles", tmp_path / "dist", version=version)
    with pytest.raises(InputError, match=r"--change .* pass --version, too"):
        package(ROOT / "bundles", tmp_path / "dist", change="better")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--output: .*file is a file"):
        package(ROOT / "bundles", tmp_path / "file")
    assert not (tmp_path / "dist").exists()


def test_the_same_bundle_gives_the_same_bytes(dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_build_wheel", lambda _: None)
    shutil.copytree(dist.parent / "bundles", tmp_path / "bundles")
    package(tmp_path / "bundles", tmp_path / "dist", version="0.2.0", change="small weights")
    assert (tmp_path / "dist" / "SHA256SUMS").read_text() == (dist / "SHA256SUMS").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_download_gives_the_weights_in_any_folder(
    name: str, server: str, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    monai.bundle.download(name, url=f"{server}/{name}_v0.2.0.zip", bundle_dir="here", progress=False)
    weights = torch.load(tmp_path / "here" / name / "models" / "model.pt", weights_only=True)
    original = torch.load(dist.parent / "bundles" / name / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(weights[key], original[key]) for key in original)
    network = monai.bundle.load(name, bundle_dir="here", device="cpu")
    own = network.state_dict()
    assert own
    assert all(torch.equal(value, weights[key]) for key, value in own.items())
    metadata = json.loads((tmp_path / "here" / name / "configs" / "metadata.json").read_text())
    formats = metadata["network_data_format"]
    pred = network.eval()(torch.rand(2, 1, *formats["inputs"]["image"]["spatial_shape"]))
    expected = formats["outputs"]["pred"]
    assert list(pred.shape) == [2, expected["num_channels"], *expected["spatial_shape"]]
    network.load_state_dict({key: value * 2 for key, value in own.items()})  # only the first time is checked


def test_weights_that_the_metadata_does_not_describe_are_refused(dist: Path, tmp_path: Path) -> None:
    """MONAI would pass over what does not fit, and hand out a random network."""
    pytest.importorskip("huggingface_hub")
    with zipfile.ZipFile(dist / f"{CONTRASTIVE}_v0.2.0.zip") as archive:
        archive.extractall(tmp_path)
    path = tmp_path / CONTRASTIVE / "models" / "model.pt"
    weights = torch.load(path, weights_only=True)
    torch.save({key: torch.cat([value, value]) if value.dim() else value for key, value in weights.items()}, path)
    with pytest.raises(InputError, match="not the weights that the bundle ufc_cluster_contrastive describes"):
        monai.bundle.load(CONTRASTIVE, bundle_dir=str(tmp_path), device="cpu")


def test_stage_3_starts_from_a_downloaded_encoder(
    server: str, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("huggingface_hub")
    url = f"{server}/{CONTRASTIVE}_v0.2.0.zip"
    monai.bundle.download(CONTRASTIVE, url=url, bundle_dir=str(tmp_path / "zoo"), progress=False)
    bundles = copy_bundles(tmp_path / "bundles")
    encoder = tmp_path / "zoo" / CONTRASTIVE / "models" / "model.pt"
    with caplog.at_level(logging.INFO):
        run_bundle(bundles, UNET, "train", phantom, pretrained_path=str(encoder), **SMALL[UNET])
    assert f"70 of 70 encoder tensors from {encoder}" in caplog.text
    with refused() as message:
        out = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models"), "fold": 1}
        run_bundle(bundles, UNET, "train", phantom, pretrained_path=str(encoder), **SMALL[UNET], **out)
    assert "validation or test patients" in message[0]


def test_a_downloaded_encoder_has_a_name_and_a_version(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in (CONTRASTIVE, "ufc_feature_vae"):
        with pytest.raises(InputError, match=f"{name} was not downloaded to .*monai.bundle download"):
            find_pretrained(name)
    monai.bundle.download(CONTRASTIVE, url=f"{server}/{CONTRASTIVE}_v0.2.0.zip", progress=False)
    found = find_pretrained(f"{CONTRASTIVE}_v0.2.0")
    assert found == find_pretrained(CONTRASTIVE) == tmp_path / "hub" / "bundle" / CONTRASTIVE / "models" / "model.pt"
    assert Path(found).is_file()
    assert find_pretrained("ufc_feature_vae/models/model.pt") == "ufc_feature_vae/models/model.pt"
    with pytest.raises(InputError, match=r"version 0\.3\.0 of .* is asked for, .* is version 0\.2\.0"):
        find_pretrained(f"{CONTRASTIVE}_v0.3.0")


@pytest.mark.slow
def test_a_wheel_lies_beside_the_zips(dist: Path, tmp_path: Path) -> None:
    """What it holds: tests/test_wheel.py."""
    *_, wheel, sums = package(dist.parent / "bundles", tmp_path)
    assert wheel.name == f"ufc_monai-{ufc_monai.__version__}-py3-none-any.whl"
    assert wheel.name in sums.read_text()
    again = package(dist.parent / "bundles", tmp_path / "again")
    assert again[-1].read_text() == sums.read_text()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda b: (b / "LICENSE").unlink(), "there is no .*LICENSE"),
        (lambda b: (b / "models" / "model.pt").unlink(), "there is no .*model.pt: train first"),
        (lambda b: torch.save({"w": torch.ones(1)}, b / "models" / "model.pt"), "sha256 differs"),
        (lambda b: _change(b, required_packages_version={"ufc-monai": "9.9.9"}), "asks for ufc-monai 9.9.9"),
        (lambda b: _change(b, changelog={}), "does not name version 0.1.0"),
        (lambda b: (b / "docs" / "README.md").write_text("# Data\n"), "no section '# Performance'"),
    ],
)
def test_what_the_zoo_would_refuse_is_refused(spoil: Any, words: str, dist: Path, tmp_path: Path) -> None:
    bundle = tmp_path / UNET
    shutil.copytree(dist.parent / "bundles" / UNET, bundle, ignore=shutil.ignore_patterns("cache"))
    spoil(bundle)
    with pytest.raises(InputError, match=words):
        bundle_files(bundle)


def test_patients_stay_at_home(dist: Path, tmp_path: Path) -> None:
    bundle = tmp_path / VAE
    shutil.copytree(dist.parent / "bundles" / VAE, bundle, ignore=shutil.ignore_patterns("cache"))
    files = bundle_files(bundle)
    content = files["models/centroids.npz"]
    named = json.loads(files["configs/metadata.json"])["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(named.values()) == ["background", "cluster 0", "cluster 1", "cluster 2", "cluster 3"]
    with np.load(bundle / "models" / "centroids.npz") as before, np.load(io.BytesIO(content)) as after:
        assert all(name.startswith("ct_train_") for name in before["patients"])
        assert after["patients"].tolist() == [str(n) for n in range(len(before["patients"]))]
        assert set(after.files) == set(before.files) - {"patient_means"}
        np.testing.assert_array_equal(after["centroids"], before["centroids"])
    for name in NAMES:
        packed = bundle_files(dist.parent / "bundles" / name)
        assert "models/network.json" in packed
        assert not [path for path, content in packed.items() if b"ct_train_" in content]


def _change(bundle: Path, **values: Any) -> None:
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_card_tells_the_training_and_no_path(chain: Path) -> None:
    text = model_card(chain / UNET)
    assert "| labelled_volumes | 2 |" in text
    network = json.loads((chain / UNET / "models" / "network.json").read_text())
    assert f"val_mean_dice {network['chosen']['val_mean_dice']:.4f} (on the network's grid)" in text
    assert "| val_mean_dice" not in text  # of the last validation, not of these weights
    encoder = sha256_of(chain / CONTRASTIVE / "models" / "model.pt")
    assert f"Started from the encoder of {CONTRASTIVE} with the weights `{encoder[:12]}`." in text
    assert "| volumes trained on | 2 |" in text
    assert f"'features': {WIDTHS['features']}" in text
    assert str(chain) not in text
    assert "_path" not in text


def test_a_card_repeats_what_the_records_warn_of(chain: Path, tmp_path: Path) -> None:
    for name in (VAE, UNET):
        for part in ("models", "eval"):
            shutil.copytree(chain / name / part, tmp_path / name / part)
    _change_record(tmp_path / UNET, "train", not_converged=["aorta"], validation="none")
    _change_record(tmp_path / VAE, "train", verdict="The auto-encoder has learned little.")
    labels = tmp_path / VAE / "eval" / "inference" / "pseudo_labels.json"
    content = json.loads(labels.read_text())
    content["provenance"]["warnings"] = ["the clusters follow patients."]
    labels.write_text(json.dumps(content))
    assert "**Not converged:** aorta." in model_card(tmp_path / UNET)
    assert "**Validation:** none." in model_card(tmp_path / UNET)
    text = model_card(tmp_path / VAE)
    assert "**Verdict of the training:** The auto-encoder has learned little." in text
    assert "**Clusters:** the clusters follow patients." in text


def test_a_card_says_how_many_were_tested(chain: Path, phantom: Path, tmp_path: Path) -> None:
    shutil.copytree(chain, tmp_path, dirs_exist_ok=True)
    run_bundle(tmp_path, UNET, "train+evaluate", phantom)
    text = model_card(tmp_path / UNET)
    assert "| test, 2 patients, 2 volumes, fold 0 |" in text
    assert "| mean_dice |" in text
    assert "| val_mean_dice" not in text


def _change_record(bundle: Path, config: str, **results: Any) -> None:
    path = bundle / "eval" / config / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"results": record["results"] | results}))


def test_a_card_does_not_tell_of_other_weights(chain: Path, tmp_path: Path) -> None:
    for part in ("models", "eval"):
        shutil.copytree(chain / UNET / part, tmp_path / part)
    network = json.loads((tmp_path / "models" / "network.json").read_text())
    changed = network | {"model_sha256": "0" * 64, "demonstration": "made up"}
    (tmp_path / "models" / "network.json").write_text(json.dumps(changed))
    text = model_card(tmp_path)
    assert "No record of the training" in text
    assert "**These weights are a demonstration**: made up." in text


def test_the_hub_gets_the_card(dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in for the hub's client, which keeps what it is asked for."""
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    class Client:
        def __init__(self, **_: Any) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return lambda **keys: asked.append((name, keys))

    monkeypatch.setattr(hub, "HfApi", Client)
    with zipfile.ZipFile(dist / f"{UNET}_v0.2.0.zip") as archive:
        archive.extractall(tmp_path)
    monai.bundle.push_to_hf_hub(repo="me/unet", name=UNET, bundle_dir=str(tmp_path), version="0.2.0")
    assert [name for name, _ in asked] == ["create_repo", "upload_folder", "create_tag"]
    page = (tmp_path / UNET / "README.md").read_text()
    assert "license: apache-2.0" in page
    assert "| labelled_volumes | 2 |" in page
