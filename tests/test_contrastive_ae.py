"""Stage 1 with contrastive_ae.json: features, prototypes, clusters, and what the other stages make of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NAMES, SMALL, WIDTHS, copy_bundles, refused, run_bundle
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from ufc_monai.artifacts.labelling import cut_again
from ufc_monai.artifacts.paint import ClusterPainter
from ufc_monai.artifacts.prototypes import PrototypeClusters
from ufc_monai.artifacts.transfer import load_weights
from ufc_monai.base.chain import CLUSTERS
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.space import PrototypeRule, load_space
from ufc_monai.evaluation.comparison import Comparison
from ufc_monai.evaluation.published import Published
from ufc_monai.networks.build import build_network
from ufc_monai.networks.prototypes import SIMILARITIES, Prototypes
from ufc_monai.planning.measure import measure_step

VAE, CONTRASTIVE, UNET = NAMES


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles after stage 1: the contrastive auto-encoder, Ward's clusters, and its own."""
    bundles = copy_bundles(tmp_path_factory.mktemp("contrastive_ae"))
    small = {**SMALL[VAE], "similarity": "squared_distance", "n_clusters": 5}
    run_bundle(bundles, VAE, "train+contrastive_ae", phantom, **small)
    for configs in ("inference", "inference+prototypes"):
        run_bundle(bundles, VAE, configs, phantom, n_clusters=4)
    return bundles


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_both_phases_leave_their_traces(trained: Path) -> None:
    out, models = trained / VAE / "eval" / "train", trained / VAE / "models"
    lines = [
        [json.loads(line) for line in (out / p / "metrics.jsonl").read_text().splitlines()] for p in (".", "assignment")
    ]
    assert [len(phase) for phase in lines] == [2, 2]
    assert {"contrast", "contrast_chance", "explained"} <= lines[0][0].keys()
    assert 1 <= lines[1][0]["used_prototypes"] <= 5
    assert lines[1][0]["not_nearest"] == 0, "by the distance, the nearest wins"
    described = read(models / "network.json")["architecture"]
    assert described["prototypes"] == {"number": 5, "similarity": "squared_distance", "temperature": 1.0}
    vectors = torch.load(models / "model.pt", weights_only=True)["prototypes.vectors"]
    start = torch.load(models / "checkpoint_prototypes.pt", weights_only=True)["prototypes"]
    assert vectors.shape == start.shape == (5, 8)
    assert not torch.equal(vectors, start), "they followed the codes"
    assert (out / "reconstructions.png").is_file()


def test_clusters_are_the_prototypes_that_fit_best(trained: Path) -> None:
    folder = trained / VAE / "eval" / "prototypes"
    with np.load(folder / "features.npz") as file:
        features, ids = file["features"], file["ids"]
    vectors = torch.load(trained / VAE / "models" / "model.pt", weights_only=True)["prototypes.vectors"].numpy()
    nearest = np.square(features[:, None] - vectors).sum(axis=2).argmin(axis=1)
    labels = PseudoLabels.load(folder / "pseudo_labels.json")
    found = labels.of_slices(ids.tolist())
    assert len(set(zip(nearest.tolist(), found, strict=True))) == len(set(found)) == len(set(nearest.tolist()))
    assert labels.provenance["centred_per_patient"] is False
    assert labels.provenance["method"].startswith("5 prototypes, similarity squared_distance")


def scores(network: Any, codes: Any) -> NDArray[np.float32]:
    return np.asarray(network.prototypes.scores(torch.from_numpy(codes)).numpy())


def test_new_slices_are_judged_by_the_prototypes_that_fit_best(trained: Path, phantom: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copytree(run / VAE / "eval" / "prototypes", run / VAE / "eval" / "inference", dirs_exist_ok=True)
    compared, stage_1 = Comparison(run, phantom, "dominant", "cpu"), Published.open(run, VAE, "cpu")
    codes = stage_1.codes(compared.slices)
    codes[compared.judged] = np.random.default_rng(0).normal(scale=3, size=codes[compared.judged].shape)
    k, by, clusters = compared._clusters(run, codes)
    best = scores(stage_1.network, codes)
    of_cluster = [best[compared.learned].argmax(axis=1)[clusters[compared.learned] == c] for c in range(k)]
    assert by == "prototype"
    assert all(len(set(prototypes.tolist())) == 1 for prototypes in of_cluster)
    expected = best[:, [prototypes[0] for prototypes in of_cluster]].argmax(axis=1)
    assert np.array_equal(clusters, expected)
    nearest = load_space(run / CLUSTERS.place / "centroids.npz")._replace(prototypes=None).assign(codes)
    assert not np.array_equal(expected, nearest), "nor by the centres of their slices"


def test_its_features_are_cut_and_guide_stage_2(trained: Path, phantom: Path) -> None:
    folder = trained / VAE / "eval"
    for place in ("inference", "prototypes"):
        assert PseudoLabels.load(cut_again(folder / place, 3)).n_clusters == 3
    with np.load(folder / "prototypes" / "features.npz") as file:
        features, ids = file["features"], file["ids"].tolist()
    for k in ("", "_k3"):
        clusters = load_space(folder / "prototypes" / f"centroids{k}.npz").assign(features)
        given = PseudoLabels.load(folder / "prototypes" / f"pseudo_labels{k}.json").of_slices(ids)
        assert clusters.tolist() == given, "also of clusters of several prototypes"
    cut_again(folder / "prototypes", 8)
    finer = load_space(folder / "prototypes" / "centroids_k8.npz")
    assert finer.prototypes is None
    assert len(set(finer.assign(features).tolist())) == 8, "five prototypes could not give them all"
    path = str(folder / "prototypes" / "pseudo_labels.json")
    run_bundle(trained, CONTRASTIVE, "train", phantom, **SMALL[CONTRASTIVE], pseudo_labels_path=path)
    assert read(trained / CONTRASTIVE / "eval" / "train" / "run.json")["inputs"]["pseudo_labels"]["path"] == path


def test_slices_are_painted_by_their_prototypes(trained: Path) -> None:
    models, folder = trained / VAE / "models", trained / VAE / "eval" / "prototypes"
    record = read(models / "network.json")
    network = build_network(record["architecture"]).eval()
    load_weights(network, models)
    space, volume = load_space(folder / "centroids.npz"), torch.rand(1, 1, 32, 32, 40)
    assert space.prototypes is not None
    with torch.no_grad():
        features = network(volume[0].movedim(-1, 0)).numpy()
        painted = ClusterPainter(folder / "centroids.npz", record["model_sha256"])(volume, network)
    assert painted.shape == (1, len(space.centres) + 1, 1, 1, 40)
    assert painted.sum(dim=1).eq(1).all()
    assert np.array_equal(painted[0, :, 0, 0].argmax(dim=0).numpy() - 1, space.prototypes.assign(features))
    assert not space.centred


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_rule_of_a_server_is_that_of_the_network(similarity: str) -> None:
    draw = torch.Generator().manual_seed(0)
    prototypes = Prototypes(6, 5, similarity)
    prototypes.vectors.copy_(torch.randn(5, 6, generator=draw) * torch.arange(1, 6)[:, None])
    codes = torch.randn(200, 6, generator=draw)
    rule = PrototypeRule(prototypes.vectors.numpy(), similarity, np.array([3, 1, 1, 0, 2]))
    assert rule.assign(codes.numpy()).tolist() == rule.clusters[prototypes.scores(codes).argmax(dim=1)].tolist()


def test_one_prototype_for_all_is_an_error() -> None:
    network = build_network({"image_size": 32, "latent_size": 2, "channels": [4, 8], "prototypes": {"number": 3}})
    network.prototypes.vectors.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]))  # type: ignore[union-attr, operator]
    with refused() as message:
        PrototypeClusters(network).fit(np.random.default_rng(0).random((20, 2)))
    assert message[0].startswith("prototypes.json: one of 3 prototypes, similarity dot fits all 20 slices best")


def test_on_the_unet_s_encoder(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path)
    small = {**SMALL[VAE], **WIDTHS, "epochs": 1, "n_clusters": 3}
    run_bundle(bundles, VAE, "train+unet_encoder+contrastive_ae+contrastive_vae", phantom, **small)
    assert read(bundles / VAE / "eval" / "train" / "run.json")["results"]["kl"] > 0
    pretrained = str(bundles / VAE / "models" / "model.pt")
    run_bundle(bundles, UNET, "train", phantom, pretrained_path=pretrained, **SMALL[UNET])


def test_a_step_is_measured_in_both_phases(chain: Path) -> None:
    times = []
    for names in (["train"], ["train", "contrastive_ae"]):
        parser = ConfigParser()
        parser.read_config([str(chain / VAE / "configs" / f"{name}.json") for name in names])
        parser.update({**SMALL[VAE], "image_size": 64, "batch_size": 32, "device": "cpu"})
        times.append(measure_step(parser))
    assert times[1].step > 1.5 * times[0].step
    assert times[1].memory > times[0].memory


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"similarity": "dto"}, "similarity must be one of dot, cosine, squared_distance"),
        ({"assignment_temperature": 0}, "assignment_temperature must be a number above 0"),
        ({"prototype_momentum": 2}, "prototype_momentum must be a number of 0 to 1"),
        ({"reconstruction_weight": -1}, "reconstruction_weight must be a number of 0 or more"),
        ({"k_range": [1, 20]}, "k_range must be [smallest, largest]"),
        ({"n_clusters": 1}, "n_clusters must be 2 or more"),
    ],
)
def test_what_is_refused_before_anything_is_trained(
    changes: dict[str, Any], words: str, chain: Path, phantom: Path, tmp_path: Path
) -> None:
    where = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path / "models")}
    with refused() as message:
        run_bundle(chain, VAE, "train+contrastive_ae", phantom, **SMALL[VAE], **where, **changes)
    assert words in message[0]
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_a_plain_vae_has_no_prototypes(chain: Path, phantom: Path) -> None:
    with refused() as message:
        run_bundle(chain, VAE, "inference+prototypes", phantom)
    assert message[0].startswith("prototypes.json: the network has no prototypes. Train it with contrastive_ae.json")
    shutil.rmtree(chain / VAE / "eval" / "prototypes", ignore_errors=True)
