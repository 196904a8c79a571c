from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from ufc_monai.artifacts.transfer import (
    encoder_in_use,
    find_pretrained,
    load_pretrained,
    load_weights,
    read_network,
    read_weights,
    save_network,
)
from ufc_monai.base.errors import InputError
from ufc_monai.networks.decoder import UNetDecoder
from ufc_monai.networks.encoder import UNetEncoder

WIDTHS = (4, 4, 8, 8, 16, 4)
RECORD = {"stage": "ufc_cluster_contrastive", "preprocessing": {"image_size": 32}, "pretrained_on": ["aa", "bb"]}


def unet(features: tuple[int, ...] = WIDTHS) -> nn.Module:
    network: nn.Module = BasicUNet(spatial_dims=2, out_channels=3, features=features)
    return network


@pytest.fixture
def saved(tmp_path: Path) -> tuple[UNetEncoder, Path]:
    encoder = UNetEncoder(WIDTHS)
    save_network(tmp_path, encoder.state_dict(), RECORD)
    return encoder, tmp_path / "model.pt"


def test_all_of_the_encoder_and_nothing_else(saved: tuple[UNetEncoder, Path]) -> None:
    encoder, path = saved
    network = unet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_pretrained(network, path).startswith("40 of 40 encoder tensors")
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in encoder.state_dict().items())
    decoder = set(after) - set(encoder.state_dict())
    assert decoder
    assert all(torch.equal(after[name], before[name]) for name in decoder)


def test_the_decoder_travels_along(tmp_path: Path) -> None:
    encoder, decoder = UNetEncoder(WIDTHS), UNetDecoder(WIDTHS, ("instance", {"affine": True}), 7)
    weights = {**encoder.state_dict(), **decoder.state_dict()}
    save_network(tmp_path, weights, RECORD)
    network = unet()
    before = network.state_dict()["final_conv.weight"].clone()
    line = load_pretrained(network, tmp_path / "model.pt")
    assert line.startswith("40 of 40 encoder tensors and 40 of 40 decoder tensors from")
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items() if "final" not in name)
    assert torch.equal(after["final_conv.weight"], before)


def test_the_decoder_stays_where_it_is_not_wanted(tmp_path: Path) -> None:
    encoder, decoder = UNetEncoder(WIDTHS), UNetDecoder(WIDTHS, ("instance", {"affine": True}), 7)
    save_network(tmp_path, {**encoder.state_dict(), **decoder.state_dict()}, RECORD)
    network = unet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_pretrained(network, tmp_path / "model.pt", decoder=False).startswith("40 of 40 encoder tensors from")
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in decoder.state_dict())


def test_an_encoder_alone_passes_the_decoder_over(tmp_path: Path) -> None:
    encoder, decoder = UNetEncoder(WIDTHS), UNetDecoder(WIDTHS, "batch", 7)
    save_network(tmp_path, {**encoder.state_dict(), **decoder.state_dict()}, RECORD)
    other = UNetEncoder(WIDTHS)
    load_weights(other, tmp_path)
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in other.state_dict().items())


def test_a_decoder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    wrong = UNetDecoder((4, 8, 8, 8, 16, 4), "batch", 7)
    save_network(tmp_path, {**UNetEncoder(WIDTHS).state_dict(), **wrong.state_dict()}, RECORD)
    with pytest.raises(InputError, match=r"fits \d+ of 80 tensors; upcat_2"):
        load_pretrained(unet(), tmp_path / "model.pt")


@pytest.mark.parametrize("path", [None, "none", "None"])
def test_random_arm(path: str | None) -> None:
    assert "random" in load_pretrained(unet(), path)


def test_a_missing_default_warns_and_a_missing_name_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = tmp_path / "model.pt"
    assert "random" in load_pretrained(unet(), nothing, default=nothing)
    assert "starts from random weights" in caplog.text
    with pytest.raises(InputError, match="pretrained_path: there is no file"):
        load_pretrained(unet(), nothing, default=tmp_path / "other.pt")


def test_a_demonstration_is_taken_only_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = UNetEncoder(WIDTHS)
    save_network(tmp_path, encoder.state_dict(), {**RECORD, "demonstration": "of nothing real"})
    network, path = unet(), tmp_path / "model.pt"
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert "random weights" in load_pretrained(network, path, default=path, expected={"image_size": 64})
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert "of nothing real" in caplog.text
    caplog.clear()
    assert "40 of 40" in load_pretrained(network, path, default=tmp_path / "other" / ".." / "model.pt")
    assert f"{path} is a demonstration: of nothing real" in caplog.text


def test_other_widths_are_refused_and_nothing_is_loaded(saved: tuple[UNetEncoder, Path]) -> None:
    network = unet((4, 4, 8, 8, 32, 4))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=r"fits 3\d of 40 tensors; down_4.* the file has \(16, 8, 3, 3\)"):
        load_pretrained(network, saved[1])
    first, *_ = weights = saved[0].state_dict()
    save_network(saved[1].parent, {name: value for name, value in weights.items() if name != first}, RECORD)
    with pytest.raises(InputError, match=f"{first} should have shape .* the file has nothing"):
        load_pretrained(network, saved[1])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_other_preprocessing_and_leaks_are_refused(saved: tuple[UNetEncoder, Path]) -> None:
    with pytest.raises(InputError, match="image_size 32, this run has 64"):
        load_pretrained(unet(), saved[1], expected={"image_size": 64})
    with pytest.raises(InputError, match="pretrained on 1 volumes"):
        load_pretrained(unet(), saved[1], held_out_sha256=["bb", "cc"])
    load_pretrained(unet(), saved[1], expected={"image_size": 32}, held_out_sha256=["cc"])


def test_weights_of_before_colour_pictures_are_grey_and_not_standardised(saved: tuple[UNetEncoder, Path]) -> None:
    network = read_network(saved[1].parent, "ufc_cluster_contrastive")
    assert network["architecture"] == {"in_channels": 1}
    assert network["preprocessing"] == {"image_size": 32, "standardise": False}
    load_pretrained(unet(), saved[1], expected={"standardise": False})
    with pytest.raises(InputError, match="standardise False, this run has True"):
        load_pretrained(unet(), saved[1], expected={"standardise": True})


def test_network_json_belongs_to_its_weights(saved: tuple[UNetEncoder, Path]) -> None:
    folder = saved[1].parent
    assert read_network(folder, "ufc_cluster_contrastive")["preprocessing"]["image_size"] == 32
    with pytest.raises(InputError, match="expected those of ufc_feature_vae"):
        read_network(folder, "ufc_feature_vae")
    torch.save(UNetEncoder(WIDTHS).state_dict(), saved[1])
    with pytest.raises(InputError, match="sha256 differs"):
        read_network(folder, "ufc_cluster_contrastive")
    saved[1].unlink()
    with pytest.raises(InputError, match="train first"):
        read_network(folder, "ufc_cluster_contrastive")


def test_same_weights_same_file(tmp_path: Path) -> None:
    weights = UNetEncoder(WIDTHS).state_dict()
    hashes = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        save_network(folder, weights, RECORD)
        hashes.append(json.loads((folder / "network.json").read_text())["model_sha256"])
    assert hashes[0] == hashes[1]


def test_weights_load_strictly(saved: tuple[UNetEncoder, Path]) -> None:
    load_weights(UNetEncoder(WIDTHS), saved[1].parent)
    with pytest.raises(InputError, match=r"does not fit the network of network\.json: \w+ key\(s\)") as caught:
        load_weights(unet(), saved[1].parent)
    assert len(str(caught.value).splitlines()) == 1
    saved[1].write_bytes(b"no weights")
    with pytest.raises(InputError, match="not a plain state dict"):
        load_weights(UNetEncoder(WIDTHS), saved[1].parent)


def test_a_network_without_a_known_encoder_takes_nothing_silently(tmp_path: Path) -> None:
    save_network(tmp_path, {"weight": torch.ones(2, 2)}, {"preprocessing": {}, "architecture": {}})
    with pytest.raises(InputError, match="nothing can be taken"):
        load_pretrained(torch.nn.Linear(2, 2), tmp_path / "model.pt")


def test_a_damaged_description_is_named_with_its_key(saved: tuple[UNetEncoder, Path]) -> None:
    saved[1].with_name("network.json").write_text("{half")
    with pytest.raises(InputError, match=r"^pretrained_path: .*network\.json is not valid JSON"):
        load_pretrained(unet(), saved[1])


def test_a_downloaded_bundle_goes_by_its_name_and_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    name = RECORD["stage"]
    bundle = tmp_path / "bundle" / str(name)
    with pytest.raises(InputError, match=f"{name} was not downloaded to {tmp_path / 'bundle'}"):
        find_pretrained(f"{name}")
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text('{"version": "0.2.0"}')
    for asked in (f"{name}", f"{name}_v0.2.0"):
        assert find_pretrained(asked) == bundle / "models" / "model.pt"
    with pytest.raises(InputError, match=f"version 0.3.0 of {name} is asked for, .* is version 0.2.0"):
        find_pretrained(f"{name}_v0.3.0")
    assert find_pretrained(f"here/{name}") == f"here/{name}"
    assert find_pretrained(None) is None


def test_the_encoder_in_use_is_the_one_that_would_be_loaded(saved: tuple[UNetEncoder, Path]) -> None:
    _, path = saved
    assert encoder_in_use(path, path) == path
    assert encoder_in_use(None, path) is None
    assert encoder_in_use(path.with_name("gone.pt"), path) is None
    record = path.with_name("network.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "demonstration": "made up"}))
    assert encoder_in_use(path, path) is None
    assert encoder_in_use(path, None) == path
    record.unlink()
    assert encoder_in_use(path, path) == path


def test_a_demonstration_is_named_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_network(tmp_path, UNetEncoder(WIDTHS).state_dict(), RECORD | {"demonstration": "made up"})
    read_network(tmp_path, str(RECORD["stage"]))
    assert f"{tmp_path / 'model.pt'} is a demonstration: made up" in caplog.text


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*model\.pt: train first"):
        read_weights(tmp_path / "model.pt")
