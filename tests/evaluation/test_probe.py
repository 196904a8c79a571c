from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import NAMES, refused, run_bundle
from tiny_volumes import save_volume
from torch import nn

from ufc_monai.artifacts.features import encode
from ufc_monai.base.errors import InputError
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.split_file import open_split
from ufc_monai.evaluation import probe as probe_module
from ufc_monai.evaluation.probe import calibrate_norms, check_probe, probe_auc

VAE, CONTRASTIVE, _ = NAMES


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_probe_of_the_chain(chain: Path, phantom: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        run_bundle(chain, CONTRASTIVE, "probe", phantom, threads=1)
    folder = chain / CONTRASTIVE / "eval" / "probe"
    content, record = read(folder / "probe.json"), read(folder / "run.json")
    split = read(chain / VAE / "eval" / "split.json")["folds"][0]
    assert list(content["structures"]) == list(record["settings"]["labels"])
    # all labelled training volumes, whatever the budget of stage 3
    assert content["training_volumes"] == len(split["training"])
    assert content["validation_volumes"] == len(split["validation"])
    for which in ("pretrained", "untrained"):
        known = [auc[which] for auc in content["structures"].values() if auc[which] is not None]
        assert len(known) > 3
        assert content["mean"][which] == pytest.approx(np.mean(known), abs=1e-4)
        assert content["mean"][which] > 0.6  # position alone tells the heart from its surroundings
    assert record["status"] == "complete"
    assert record["results"]["probe_auc"] == content["mean"]["pretrained"]
    assert "it selects nothing" in caplog.text
    assert list(content["false_negatives"]) == ["simclr", "glcl", "pcl", "ufc"]
    for row in content["false_negatives"].values():
        assert 0 < row["false_negatives"] < 1
    assert content["false_negatives"]["simclr"]["pushed_apart"] == 1
    assert "UFC, these clusters" in caplog.text
    shown = dict(content["clusterings"]["inference/pseudo_labels.json"])
    assert shown.pop("sha256") == record["inputs"]["pseudo_labels"]["sha256"]
    assert shown == content["false_negatives"]["ufc"]


def test_false_negatives_without_clusters(
    chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run_bundle(chain, CONTRASTIVE, "probe", phantom, threads=1, output_dir=str(tmp_path), pseudo_labels_path="none")
    assert list(read(tmp_path / "probe.json")["false_negatives"]) == ["simclr", "glcl", "pcl"]
    assert "the false negatives of UFC are left out" in caplog.text


def test_all_clusterings_of_stage_1_are_counted(
    chain: Path, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of other data are passed over."""
    content = PseudoLabels.load(chain / VAE / "eval" / "inference" / "pseudo_labels.json")
    eval_folder = tmp_path / "eval"
    content.save(eval_folder / "inference" / "pseudo_labels.json")
    single = {image: list(range(len(c))) for image, c in content.clusters.items()}
    PseudoLabels(single, 99, {}).save(eval_folder / "levels" / "pseudo_labels.json")
    PseudoLabels({"other.nii.gz": [0]}, 1, {}).save(eval_folder / "other" / "pseudo_labels.json")
    path = str(eval_folder / "inference" / "pseudo_labels.json")
    with caplog.at_level(logging.INFO):
        run_bundle(chain, CONTRASTIVE, "probe", phantom, output_dir=str(tmp_path), pseudo_labels_path=path)
    found = read(tmp_path / "probe.json")["clusterings"]
    assert list(found) == ["inference/pseudo_labels.json", "levels/pseudo_labels.json"]
    assert found["levels/pseudo_labels.json"]["false_negatives"] < found["inference/pseudo_labels.json"]["pushed_apart"]
    assert "UFC, levels/pseudo_labels.json" in caplog.text
    assert "UFC, inference/pseudo_labels.json" not in caplog.text  # they stand above as "these clusters"


def test_clusters_of_other_data_are_refused(chain: Path, phantom: Path, tmp_path: Path) -> None:
    PseudoLabels({"other.nii.gz": [0, 1]}, 2, {}).save(tmp_path / "other.json")
    with refused() as message:
        run_bundle(
            chain,
            CONTRASTIVE,
            "probe",
            phantom,
            output_dir=str(tmp_path / "out"),
            pseudo_labels_path=str(tmp_path / "other.json"),
        )
    assert "pseudo_labels_path: made for other data" in message[0]


def test_single_pictures_have_no_position() -> None:
    """GLCL and PCL compare positions in a volume."""

    class Pictures:
        items: ClassVar = [{"id": "a.png#0", "position": 0.5}, {"id": "b.png#0", "position": 0.5}]

        def slices_per_image(self) -> dict[str, int]:
            return {"a.png": 1, "b.png": 1}

    assert probe_module._positions(Pictures()) is None  # type: ignore[arg-type]


def test_the_same_probe_twice(chain: Path, phantom: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_bundle(chain, CONTRASTIVE, "probe", phantom, threads=1, output_dir=str(tmp_path / name))
    assert (tmp_path / "one" / "probe.json").read_bytes() == (tmp_path / "two" / "probe.json").read_bytes()


def small_split(folder: Path, patients: int, *, labelled: bool) -> Any:
    for i in range(patients):
        save_volume(folder / "data" / "images" / f"{i}.nii.gz", np.full((4, 4, 2), i))
        if labelled:
            save_volume(folder / "data" / "labels" / f"{i}.nii.gz", np.ones((4, 4, 2)))
    return open_split(folder / "split.json", folder / "data")


def test_nothing_to_probe_on_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs validation patients.*fewer than 4 labelled"):
        check_probe(small_split(tmp_path / "a", 3, labelled=True), 0)
    with pytest.raises(InputError, match=r"needs labels, and .*data has none"):
        check_probe(small_split(tmp_path / "b", 5, labelled=False), 0)
    check_probe(small_split(tmp_path / "c", 4, labelled=True), 0)


def test_probe_before_pretraining_is_refused(chain: Path, phantom: Path, tmp_path: Path) -> None:
    with refused() as message:
        run_bundle(chain, CONTRASTIVE, "probe", phantom, ckpt_dir=str(tmp_path), output_dir=str(tmp_path))
    assert "train first" in message[0]


def test_auc_of_what_can_and_cannot_be_read_off() -> None:
    draw = np.random.default_rng(0)
    x, x_held_out = draw.normal(size=(200, 5)), draw.normal(size=(200, 5))
    readable = probe_auc(x, x[:, 2] > 0, x_held_out, x_held_out[:, 2] > 0)
    lot = probe_auc(x, draw.random(200) > 0.5, x_held_out, draw.random(200) > 0.5)
    assert readable is not None
    assert lot is not None
    assert readable > 0.97
    assert 0.35 < lot < 0.65


def test_no_auc_where_a_structure_is_in_all_or_no_slices() -> None:
    x, mixed = np.eye(4), np.array([True, False, True, False])
    for constant in (np.ones(4, bool), np.zeros(4, bool)):
        assert probe_auc(x, constant, x, mixed) is None
        assert probe_auc(x, mixed, x, constant) is None
    assert probe_auc(x, mixed, x, mixed) == 1.0


def slices(n: int, mean: float) -> Any:
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + mean
    return [{"image": image} for image in images]


def test_untrained_norms_are_calibrated_on_all_slices() -> None:
    norm = nn.BatchNorm2d(1)
    net = nn.Sequential(norm, nn.Flatten())
    data = slices(256, mean=7.0)
    before = encode(net, data, "cpu")
    calibrate_norms(net, data, "cpu", seed=0)
    every = torch.stack([item["image"] for item in data])
    assert float(norm.running_mean[0]) == pytest.approx(float(every.mean()), abs=1e-5)  # type: ignore[index]
    assert before.mean() == pytest.approx(7, abs=0.1)
    assert encode(net, data, "cpu").mean() == pytest.approx(0, abs=1e-4)


def test_encoding_leaves_the_training_alone() -> None:
    norm = nn.BatchNorm1d(16)
    net = nn.Sequential(nn.Flatten(), norm, nn.Dropout(0.5)).train()
    state = torch.get_rng_state()
    data = slices(10, mean=0.0)
    features = encode(net, data, "cpu", indices=[4, 1])
    assert features.shape == (2, 16)
    np.testing.assert_allclose(features[1], data[1]["image"].flatten(), rtol=1e-4)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)
    assert norm.num_batches_tracked == 0
