"""The three bundles, one after the other, for real."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import NAMES, ROOT, SMALL, copy_bundles, refused, run_bundle, run_chain

from ufc_monai.artifacts.labelling import cut_again
from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.phantom.ct import make_phantom

VAE, CONTRASTIVE, UNET = NAMES
TREES = ("average", "complete", "uncentred")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_stage_leaves_its_files(chain: Path) -> None:
    for name in NAMES:
        weights = torch.load(chain / name / "models" / "model.pt", weights_only=True)
        assert all(torch.isfinite(value).all() for value in weights.values() if value.is_floating_point())
        torch.load(chain / name / "models" / "checkpoint.pt", weights_only=True)
        record = read(chain / name / "eval" / "train" / "run.json")
        assert record["status"] == "complete"
        lines = (chain / name / "eval" / "train" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    features = np.load(chain / VAE / "eval" / "inference" / "features.npz")
    labels = read(chain / VAE / "eval" / "inference" / "pseudo_labels.json")
    assert len(features["ids"]) == len(features["features"]) == sum(len(c) for c in labels["clusters"].values())
    assert {c for clusters in labels["clusters"].values() for c in clusters} == set(range(4))
    for picture in ("elbow.png", "clusters.png"):
        assert (chain / VAE / "eval" / "inference" / picture).stat().st_size > 5000


def test_pretraining_sees_no_held_out_patient(chain: Path) -> None:
    split = read(chain / VAE / "eval" / "split.json")
    fold = split["folds"][0]
    held_out = {i for i, e in split["images"].items() if e["patient"] in fold["validation"] + fold["test"]}
    assert held_out
    clustered = set(read(chain / VAE / "eval" / "inference" / "pseudo_labels.json")["clusters"])
    assert not clustered & held_out
    hashes = {split["images"][i]["sha256"] for i in held_out}
    for name in (VAE, CONTRASTIVE):
        pretrained_on = read(chain / name / "models" / "network.json")["pretrained_on"]
        assert pretrained_on
        assert not hashes & set(pretrained_on)


def test_encoder_starts_from_stage_2(chain: Path, phantom: Path, tmp_path: Path, caplog: Any) -> None:
    bundles = tmp_path / "copy"
    shutil.copytree(chain, bundles)
    small = {**SMALL[UNET], "learning_rate": 0.0, "weight_decay": 0.0, "output_dir": str(tmp_path / "out")}
    with caplog.at_level("INFO"):
        run_bundle(bundles, UNET, "train", phantom, **small)
    assert "70 of 70 encoder tensors" in caplog.text
    encoder = torch.load(bundles / CONTRASTIVE / "models" / "model.pt", weights_only=True)
    unet = torch.load(bundles / UNET / "models" / "model.pt", weights_only=True)
    convolutions = [name for name in encoder if name.endswith("conv.weight")]
    assert len(convolutions) == 10
    assert all(torch.equal(encoder[name], unet[name]) for name in convolutions)


def test_evaluate_on_test_patients(chain: Path, phantom: Path) -> None:
    run_bundle(chain, UNET, "train+evaluate", phantom)
    with open(chain / UNET / "eval" / "evaluate" / "dice.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    test = read(chain / VAE / "eval" / "split.json")["folds"][0]["test"]
    assert sorted(row["volume"] for row in rows) == sorted(f"{patient}_image.nii.gz" for patient in test)
    assert list(rows[0])[2:] == list(read(chain / UNET / "models" / "network.json")["labels"])
    record = read(chain / UNET / "eval" / "evaluate" / "run.json")
    assert record["results"]["mean_dice"] == pytest.approx(np.mean([float(row["mean"]) for row in rows]), abs=1e-3)
    assert "val_mean_dice" not in record["results"]
    for row in rows:  # the masks that were measured are there, with the data set's ids
        mask = nib.load(chain / UNET / "eval" / "evaluate" / row["volume"].replace(".nii.gz", "_seg.nii.gz"))
        label = nib.load(phantom / row["volume"].replace("_image", "_label"))
        assert np.allclose(mask.affine, label.affine)
        predicted, reference = (np.asarray(image.dataobj) == 420 for image in (mask, label))
        dice = 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())
        assert dice == pytest.approx(float(row["left_atrium"]), abs=1e-4)


def test_the_record_tells_the_dice_of_the_weights_that_are_kept(chain: Path, phantom: Path, tmp_path: Path) -> None:
    where = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    first_is_best = {"validate::evaluator::metric_cmp_fn": "$lambda new, best: False"}
    run_bundle(chain, UNET, "train", phantom, **{**SMALL[UNET], "epochs": 4, **where, **first_is_best})
    results = read(tmp_path / "out" / "run.json")["results"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    dice = [line["val_mean_dice"] for line in lines]
    assert dice[0] != dice[-1]
    assert (results["val_mean_dice"], results["last_val_mean_dice"]) == (dice[0], dice[-1])
    assert (results["kept_epoch"], results["kept_step"]) == (1, lines[0]["iteration"])
    assert read(tmp_path / "models" / "network.json")["chosen"] == {"epoch": 1, "val_mean_dice": dice[0]}


@pytest.mark.parametrize("name", ["kmeans", "dbscan", "complete", "average+pca", "uncentred"])
def test_clusterings_by_small_configurations(name: str, chain: Path, phantom: Path) -> None:
    """Each beside the clusters that are there."""
    keys = {} if name == "dbscan" else {"n_clusters": 5}
    run_bundle(chain, VAE, f"inference+{name}", phantom, **keys)
    folder = chain / VAE / "eval" / name.rpartition("+")[2]
    labels, standard = (read(f / "pseudo_labels.json") for f in (folder, chain / VAE / "eval" / "inference"))
    assert {i: len(c) for i, c in labels["clusters"].items()} == {i: len(c) for i, c in standard["clusters"].items()}
    assert labels["provenance"]["method"] != standard["provenance"]["method"] or name == "uncentred"
    assert (name == "dbscan") != (labels["n_clusters"] == 5)
    record = read(folder / "run.json")
    assert record["status"] == "complete"
    assert record["settings"]["clustering"] == ("agglomerative" if "+" in name or name in TREES else name)
    share = labels["provenance"]["quality"]["largest_share"]
    assert record["results"]["largest_share"] == pytest.approx(share, abs=1e-6)


@pytest.fixture
def small_file(chain: Path) -> Iterator[Callable[[dict[str, Any]], str]]:
    """Lays a clustering over stage 1's inference.json: one small file."""
    path = chain / VAE / "configs" / "new.json"

    def write(clustering: dict[str, Any]) -> str:
        path.write_text(json.dumps({"clustering": clustering}))
        return "inference+new"

    yield write
    path.unlink()


BISECTING = {"_target_": "sklearn.cluster.BisectingKMeans", "n_clusters": "@n_clusters", "random_state": "@seed"}


@pytest.mark.parametrize("n_clusters", [None, 5])
def test_a_new_clustering_is_one_small_file(
    n_clusters: int | None, small_file: Any, chain: Path, phantom: Path, tmp_path: Path
) -> None:
    configs = small_file(BISECTING)
    run_bundle(chain, VAE, configs, phantom, output_dir=str(tmp_path / "one"), n_clusters=n_clusters)
    run_bundle(chain, VAE, configs, phantom, output_dir=str(tmp_path / "two"), n_clusters=n_clusters)
    one, two = ((tmp_path / name / "pseudo_labels.json").read_bytes() for name in ("one", "two"))
    assert one == two
    labels = json.loads(one)
    k, origin = labels["n_clusters"], labels["provenance"]
    assert k == (n_clusters or origin["elbow"]["chosen"])
    assert origin["method"] == f"BisectingKMeans(n_clusters={k}, random_state=0)"
    # features are centred as for every clustering
    patients = np.load(tmp_path / "one" / "centroids.npz")["patients"].tolist()
    assert patients == [image.removesuffix("_image.nii.gz") for image in sorted(labels["clusters"])]
    with pytest.raises(InputError, match=r"BisectingKMeans\(.*\), which leaves no tree to cut"):
        cut_again(tmp_path / "one", 3)


def test_a_new_clustering_goes_through_stage_2(small_file: Any, chain: Path, phantom: Path, tmp_path: Path) -> None:
    run_bundle(chain, VAE, small_file(BISECTING), phantom, output_dir=str(tmp_path / "new"), n_clusters=4)
    path = {"pseudo_labels_path": str(tmp_path / "new" / "pseudo_labels.json")}
    where = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    run_bundle(chain, CONTRASTIVE, "train", phantom, **SMALL[CONTRASTIVE], **path, **where)
    assert (tmp_path / "models" / "model.pt").is_file()


@pytest.mark.parametrize(
    ("clustering", "keys", "said"),
    [
        ({"_target_": "sklearn.cluster.HDBSCAN", "copy": True}, {"n_clusters": 5}, "n_clusters: HDBSCAN finds the num"),
        ({"_target_": "sklearn.decomposition.PCA"}, {"linkage": "single"}, "linkage must be one of"),
        ({"_target_": "collections.OrderedDict"}, {}, "clustering must be one of agglomerative, kmeans, dbscan, or"),
    ],
)
def test_a_new_clustering_is_checked_before_anything_is_computed(
    clustering: Any, keys: Any, said: str, small_file: Any, chain: Path, phantom: Path, tmp_path: Path
) -> None:
    with refused() as message:
        run_bundle(chain, VAE, small_file(clustering), phantom, output_dir=str(tmp_path), **keys)
    assert said in message[0]
    assert list(tmp_path.iterdir()) == []


def test_a_clustering_is_checked_before_anything_is_computed(chain: Path, phantom: Path, tmp_path: Path) -> None:
    with refused() as message:
        run_bundle(chain, VAE, "inference+dbscan", phantom, n_clusters=5, output_dir=str(tmp_path))
    assert "n_clusters: dbscan finds the number of clusters by eps" in message[0]
    assert list(tmp_path.iterdir()) == []


def test_same_seed_same_bits(chain: Path, phantom: Path, tmp_path: Path) -> None:
    again = copy_bundles(tmp_path)
    run_chain(again, phantom)
    for name in NAMES:
        one, two = (torch.load(b / name / "models" / "model.pt", weights_only=True) for b in (chain, again))
        assert all(torch.equal(one[key], two[key]) for key in one)
    files = [b / VAE / "eval" / "inference" / "pseudo_labels.json" for b in (chain, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_simclr_needs_no_clusters(chain: Path, phantom: Path, tmp_path: Path) -> None:
    bundles = tmp_path / "copy"
    shutil.copytree(chain, bundles)
    shutil.rmtree(bundles / CONTRASTIVE / "eval")
    (bundles / VAE / "eval" / "inference" / "pseudo_labels.json").unlink()
    run_bundle(bundles, CONTRASTIVE, "train+simclr", phantom, **SMALL[CONTRASTIVE])
    line = json.loads((bundles / CONTRASTIVE / "eval" / "train" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["chance"] == pytest.approx(np.log(2 * 48 - 1), abs=1e-4)


def test_encoder_starts_from_stage_1(phantom: Path, tmp_path: Path, caplog: Any) -> None:
    """The ablation vae_init: the auto-encoder is built on the UNet's encoder, and stage 3 starts from it."""
    bundles = copy_bundles(tmp_path)
    small = {**SMALL[VAE], "features": SMALL[UNET]["features"], "norm": SMALL[UNET]["norm"]}
    run_bundle(bundles, VAE, "train+unet_encoder", phantom, **small)
    run_bundle(bundles, VAE, "inference", phantom, n_clusters=4)
    with np.load(bundles / VAE / "eval" / "inference" / "features.npz") as file:
        assert file["features"].shape == (len(file["ids"]), 8)
    pretrained = bundles / VAE / "models" / "model.pt"
    with caplog.at_level("INFO"):
        run_bundle(bundles, UNET, "train", phantom, pretrained_path=str(pretrained), **SMALL[UNET])
    assert f"70 of 70 encoder tensors from {pretrained}" in caplog.text
    outputs = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    with refused() as message:
        run_bundle(bundles, UNET, "train", phantom, pretrained_path=str(pretrained), fold=1, **SMALL[UNET], **outputs)
    assert "validation or test patients" in message[0]


@pytest.mark.parametrize("beta", [0.0, 4.0])
def test_auto_encoders_by_one_number(beta: float, phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path)
    run_bundle(bundles, VAE, "train", phantom, **{**SMALL[VAE], "beta": beta})
    line = json.loads((bundles / VAE / "eval" / "train" / "metrics.jsonl").read_text().splitlines()[-1])
    assert ("kl" in line) == (beta > 0)
    assert line["mse"] > 0


def test_twelve_scans_three_labels(tmp_path: Path, caplog: Any) -> None:
    """The case that the project is for, with too few labels to hold any out."""
    data = tmp_path / "data"
    make_phantom(data, patients=12, labelled=3, matrix=40)
    bundles = copy_bundles(tmp_path / "bundles")
    with caplog.at_level("WARNING"):
        run_chain(bundles, data, labelled_volumes=None)
    assert "nothing is held out" in caplog.text
    said = read(bundles / UNET / "eval" / "train" / "run.json")["results"]["validation"]
    assert said.startswith("none; the last weights are kept")
    assert [message for message in caplog.messages if "validation" in message] == [f"validation: {said}"]
    assert len(read(bundles / VAE / "models" / "network.json")["pretrained_on"]) == 12
    run_bundle(bundles, UNET, "inference", data, unlabelled_only=True)
    masks = sorted((bundles / UNET / "eval" / "inference").rglob("*_seg.nii.gz"))
    assert len(masks) == 9
    for mask in masks:
        image = nib.load(data / mask.name.replace("_seg", ""))
        segmented = nib.load(mask)
        assert segmented.shape == image.shape
        assert np.allclose(segmented.affine, image.affine)
        assert set(np.unique(segmented.get_fdata())) <= {0, *MMWHS_LABELS.values()}
    with refused() as message:
        run_bundle(bundles, UNET, "train+evaluate", data)
    assert "holds out no test patients" in message[0]


def test_another_run_is_refused(chain: Path, phantom: Path) -> None:
    with refused() as message:
        run_bundle(chain, VAE, "train", phantom, **{**SMALL[VAE], "epochs": 3})
    assert "epochs 2 / 3" in message[0]
    assert "--output_dir" in message[0]
    assert read(chain / VAE / "eval" / "train" / "run.json")["settings"]["epochs"] == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"features": [8, 4, 8, 8, 16, 4]}, "fits "),
        ({"image_size": 48}, "image_size 32, this run has 48"),
        ({"fold": 1}, "validation or test patients"),
        ({"pretrained_path": "nowhere/model.pt"}, "no file nowhere"),
        ({"labelled_volumes": 9}, "labelled_volumes must be 1 to 4"),
        ({"labels": {"aorta": 820}}, "claimed by no class"),
    ],
)
def test_what_does_not_fit_is_refused(
    overrides: dict[str, Any], words: str, chain: Path, phantom: Path, tmp_path: Path
) -> None:
    outputs = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    with refused() as message:
        run_bundle(chain, UNET, "train", phantom, **{**SMALL[UNET], **outputs, **overrides})
    assert words in message[0]
    assert not (tmp_path / "models" / "model.pt").exists()


def test_pseudo_labels_of_other_data_are_refused(chain: Path, tmp_path: Path) -> None:
    data = tmp_path / "other"
    make_phantom(data, patients=8, matrix=40, seed=1)
    labels = chain / VAE / "eval" / "inference" / "pseudo_labels.json"
    bundles = copy_bundles(tmp_path / "bundles")
    with refused() as message:
        run_bundle(bundles, CONTRASTIVE, "train", data, pseudo_labels_path=str(labels), **SMALL[CONTRASTIVE])
    assert "pseudo_labels_path" in message[0]


def test_region_of_interest_travels_with_the_weights(chain: Path, phantom: Path, tmp_path: Path) -> None:
    outputs = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    run_bundle(chain, UNET, "train", phantom, **{**SMALL[UNET], **outputs, "region": "labels"})
    region = read(tmp_path / "models" / "network.json")["preprocessing"]["region"]
    assert len(region) == 4
    assert 0 < region[1] - region[0] < 1
    run_bundle(chain, UNET, "inference", phantom, ckpt_dir=outputs["ckpt_dir"], output_dir=str(tmp_path / "masks"))
    assert len(list((tmp_path / "masks").rglob("*_seg.nii.gz"))) == 8


def test_encoder_bundle_hands_out_features(chain: Path, phantom: Path) -> None:
    run_bundle(chain, CONTRASTIVE, "inference", phantom)
    with np.load(chain / CONTRASTIVE / "eval" / "inference" / "features.npz") as file:
        assert file["features"].shape == (len(file["ids"]), 16)
        assert len({i.rpartition("#")[0] for i in file["ids"]}) == 8


def test_segmentation_bundle_works_alone(phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Copied without its siblings it warns, starts from random weights and draws a split of its own."""
    shutil.copytree(ROOT / "bundles" / UNET / "configs", tmp_path / UNET / "configs")
    run_bundle(tmp_path, UNET, "train", phantom, **SMALL[UNET])
    assert "starts from random weights" in caplog.text
    assert len(read(tmp_path / UNET / "eval" / "split.json")["folds"]) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == [UNET]
