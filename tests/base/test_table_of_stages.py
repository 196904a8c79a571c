"""The table of the stages says what the bundles' configurations do."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT, SMALL, refused, run_bundle
from monai.bundle import ConfigParser

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.chain import MASKS, SPLIT, STAGES, Stage, data_set_of, refuse_stale
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of, write_json
from ufc_monai.commands.cut import cut

PATHS = (
    "split_path",
    "pseudo_labels_path",
    "pretrained_path",
    *(f"run_record::outputs::{n}" for n in ("dice", "probe")),
)
VAE, CONTRASTIVE, UNET = NAMES
WAYS_OUT = "Make it again, or go on as it is with --allow_stale True."
LAYOUTS = {
    "of a run": (f"{VAE}/models", f"{VAE}/eval/train", f"{VAE}/eval/inference", f"{CONTRASTIVE}"),
    "of a study": ("f/features/models", "f/features/train", "f/clusters", "f/ufc/pretraining"),
}


def paths_of(stage: Stage) -> dict[str, str]:
    """The paths that a stage's configuration gives to its keys when it is started in a run's folder."""
    names = ("train", "evaluate") if stage.config == "evaluate" else (stage.config,)
    parser = ConfigParser()
    parser.read_config([ROOT / "bundles" / stage.bundle / "configs" / f"{name}.json" for name in names])
    for key, value in {"bundle_root": stage.bundle, **stage.keys}.items():
        parser[key] = value
    found = {key: parser.get_parsed_content(key) for key in ("output_dir", "ckpt_dir", *PATHS) if key in parser}
    return {key: os.path.normpath(path) for key, path in found.items() if path is not None}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.place)
def test_every_file_is_where_the_configuration_has_it(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUNDLES:
        (tmp_path / name / "eval").mkdir(parents=True)
    (tmp_path / SPLIT).touch()
    monkeypatch.chdir(tmp_path)
    paths = paths_of(stage)
    assert paths["output_dir"] == stage.place
    weights = [paths.get("pretrained_path", "none"), f"{paths['ckpt_dir']}/model.pt"]
    known = {*paths.values(), *weights, *(str(Path(path).with_name("network.json")) for path in weights)}
    known |= {f"{stage.place}/{name}" for name in ("pseudo_labels.json", "features.npz") if stage.config == "inference"}
    assert {*stage.inputs, *stage.outputs} - {*MASKS.outputs} <= known


@pytest.mark.parametrize("command", [["--dataset_dir", "/data/x=1"], ["--dataset_dir=/data/x=1"]])
def test_the_data_set_of_a_command_may_have_an_equals_sign(command: list[str]) -> None:
    assert data_set_of({"command": ["run", *command, "--seed", "1"]}) == "/data/x=1"


def test_every_input_is_written_by_an_earlier_stage() -> None:
    made = set[str]()
    for stage in STAGES:
        assert set(stage.inputs) <= made
        assert not made & set(stage.outputs)
        made |= set(stage.outputs)


def write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def note(folder: Path, inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    def named(files: dict[str, Path]) -> dict[str, Any]:
        return {name: {"path": str(file), "sha256": sha256_of(file)} for name, file in files.items()}

    files = {"inputs": named(inputs), "outputs": named(outputs)}
    write_json(folder / "run.json", {"status": "complete", "folder": str(folder), **files})


def save_weights(folder: Path, content: str) -> Path:
    model = write(folder / "model.pt", content)
    write_json(folder / "network.json", {"model_sha256": sha256_of(model)})
    return model


@pytest.fixture(params=list(LAYOUTS.values()), ids=list(LAYOUTS))
def files(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Path]:
    """Split, VAE, features and pseudo-labels, encoder, with the records that the stages leave."""
    models, train, clusters, second = (tmp_path / "run" / place for place in request.param)
    split = write(tmp_path / "run" / "split.json", "split")
    vae = save_weights(models, "vae")
    note(train, {"split": split}, {"model": vae})
    labels = write(
        clusters / "pseudo_labels.json", json.dumps({"provenance": {"model_sha256": sha256_of(vae)}, "clusters": {}})
    )
    features = write(clusters / "features.npz", "features")
    note(clusters, {"model": vae, "split": split}, {"pseudo_labels": labels, "features": features})
    encoder = save_weights(second / "models", "encoder")
    place = second / ("eval/train" if second.name == CONTRASTIVE else "train")
    note(place, {"split": split, "pseudo_labels": labels}, {"model": encoder})
    return {"split": split, "vae": vae, "labels": labels, "features": features, "encoder": encoder, "record": place}


def test_what_fits_is_taken_without_a_word(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert refuse_stale([files["encoder"], files["labels"], files["features"], None, "none"]) == []
    assert caplog.text == ""


@pytest.mark.parametrize("changed", ["split", "vae", "labels", "features", "encoder"])
def test_what_has_changed_is_found_from_what_hangs_on_it(
    changed: str, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    files[changed].write_text('{"provenance": {}}' if changed == "labels" else "made anew")
    reads = files["features"] if changed == "features" else files["encoder"]
    with pytest.raises(InputError) as caught:
        refuse_stale([reads])
    said = str(caught.value)
    assert WAYS_OUT in said
    assert str(files[changed]) in said
    assert len(said.splitlines()) == 1
    assert len(refuse_stale([reads], allow=True)) >= 1
    assert f"allow_stale: {files[changed]}"[:20] in caplog.text


def test_a_later_cut_of_an_earlier_tree(files: dict[str, Path]) -> None:
    later = files["labels"].with_name("pseudo_labels_k5.json")
    shutil.copyfile(files["labels"], later)
    refuse_stale([later])
    later.write_text('{"provenance": {"model_sha256": "of another"}}')
    with pytest.raises(InputError, match="than the clusters beside it"):
        refuse_stale([later])


def test_a_moved_run_is_looked_at_where_it_is(files: dict[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    encoder = moved / files["encoder"].relative_to(tmp_path / "run")
    shutil.move(tmp_path / "run", moved)
    shutil.copytree(moved, tmp_path / "run")
    files["vae"].write_text("a new run in the old place")
    assert refuse_stale([encoder]) == []
    (moved / files["vae"].relative_to(tmp_path / "run")).write_text("retrained")
    with pytest.raises(InputError, match="moved"):
        refuse_stale([encoder])


def test_what_lies_elsewhere_is_trusted_and_named(
    files: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    downloaded = tmp_path / "downloaded" / "models"
    shutil.copytree(files["vae"].parent, downloaded)
    files["labels"].unlink()
    with caplog.at_level(logging.INFO):
        assert refuse_stale([downloaded / "model.pt", files["encoder"]]) == []
    (line,) = caplog.messages
    assert line.startswith("taken on trust")
    assert str(downloaded / "model.pt") in line
    assert str(files["labels"]) in line


def test_a_training_that_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    model = save_weights(tmp_path / "models", "before")
    write_json(tmp_path / "eval" / "train" / "run.json", {})
    before = {"path": str(model), "sha256": sha256_of(model)}
    save_weights(tmp_path / "models", "after")
    after = {"path": str(model), "sha256": sha256_of(model)}
    write_json(tmp_path / "eval" / "train" / "run.json", {"inputs": {"model": before}, "outputs": {"model": after}})
    assert refuse_stale([model]) == []


@pytest.fixture
def retrained(chain: Path, tmp_path: Path) -> Path:
    """The chain, with another VAE in the place of the one that its pseudo-labels come from."""
    for name in NAMES:
        shutil.copytree(chain / name, tmp_path / name, ignore=shutil.ignore_patterns("cache"))
    model = tmp_path / VAE / "models" / "model.pt"
    model.write_bytes(model.read_bytes() + b" ")
    return tmp_path


def test_pseudo_labels_of_another_network_are_refused(retrained: Path, phantom: Path) -> None:
    where = {"output_dir": str(retrained / "out"), "ckpt_dir": str(retrained / "models")}
    with refused() as message:
        run_bundle(retrained, CONTRASTIVE, "train", phantom, **SMALL[CONTRASTIVE], **where)
    assert "pseudo_labels.json was made from another " in message[0]
    assert WAYS_OUT in message[0]
    assert not (retrained / "out").exists()
    with refused() as message:
        run_bundle(retrained, CONTRASTIVE, "train", phantom, **SMALL[CONTRASTIVE], **where, allow_stale="yes")
    assert "allow_stale must be True or False, got 'yes'" in message[0]
    run_bundle(retrained, CONTRASTIVE, "train", phantom, **SMALL[CONTRASTIVE], **where, allow_stale="true")
    record = json.loads((retrained / "out" / "run.json").read_text())
    assert record["allow_stale"] is True
    assert "pseudo_labels.json was made from another " in record["stale"][0]


def test_weights_are_refused_as_far_back_as_there_are_records(retrained: Path, phantom: Path) -> None:
    for config in ("train", "train+evaluate", "inference"):
        small = {} if config == "inference" else {"threads": 1} if "evaluate" in config else SMALL[UNET]
        with refused() as message:
            run_bundle(retrained, UNET, config, phantom, **small, output_dir=str(retrained / "out"))
        assert "pseudo_labels.json was made from another " in message[0] or "model.pt is not the file" in message[0]


def test_a_tree_of_other_features_is_not_cut(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain / VAE / "eval" / "inference", tmp_path / "eval" / "inference")
    cut(tmp_path, 3)
    features = tmp_path / "eval" / "inference" / "features.npz"
    features.write_bytes(features.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"features\.npz is not the file that .*allow_stale True"):
        cut(tmp_path, 4)
    cut(tmp_path, 4, allow_stale=True)


def test_records_say_that_nothing_was_stale(chain: Path) -> None:
    for place in (f"{VAE}/eval/inference", f"{CONTRASTIVE}/eval/train", f"{UNET}/eval/train"):
        record = json.loads((chain / place / "run.json").read_text())
        assert (record["allow_stale"], record["stale"]) == (False, [])
