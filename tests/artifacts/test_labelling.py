from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.cluster import AgglomerativeClustering, BisectingKMeans

from ufc_monai.artifacts.labelling import Slices, assign_slices, cut_again, label_slices
from ufc_monai.base.errors import InputError
from ufc_monai.clustering.clusterers import Agglomerative, cut_tree
from ufc_monai.clustering.pipeline import ClusteringMethod
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.quality import raw_pixels
from ufc_monai.clustering.space import assign, centroids

THREE = ClusteringMethod(n_clusters=3, k_range=(2, 9))
METHODS = [
    ClusteringMethod(clustering=BisectingKMeans(n_clusters=3, random_state=0)),
    ClusteringMethod(clustering=AgglomerativeClustering(n_clusters=None), k_range=(2, 9)),
    THREE,
    ClusteringMethod(linkage="average", feature_scaling="l2", n_clusters=3),
    ClusteringMethod(linkage="complete", feature_scaling="pca", n_clusters=3),
    ClusteringMethod(clustering="kmeans", feature_scaling="standardised", n_clusters=3),
    ClusteringMethod(clustering="kmeans", centred=False, k_range=(2, 9)),
    ClusteringMethod(clustering="dbscan", eps=4),
]


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """The pictures take most of the time; other tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("save_cluster_map", "save_patients", "save_rows"):
            patch.setattr(f"ufc_monai.artifacts.labelling.{name}", lambda *_: None)
        yield


@pytest.fixture
def _no_pictures() -> Iterator[None]:
    with without_pictures():
        yield


def some_slices(patients: int = 4, each: int = 20) -> tuple[Any, Slices]:
    """Features at three levels of the body, and pictures that show the level."""
    rng = np.random.default_rng(0)
    position = np.tile((np.arange(each) + 0.5) / each, patients)
    level = (position * 3).astype(int)
    features = 10 * np.eye(3, 5)[level] + rng.normal(size=(len(level), 5))
    names = [f"p{i}" for i in np.repeat(np.arange(patients), each)]
    ids = [f"{name}.nii.gz#{i % each}" for i, name in enumerate(names)]
    pictures = np.broadcast_to((level * 100).astype(np.uint8)[:, None, None], (len(level), 32, 32)).copy()
    return features, Slices(ids, names, position, pictures)


def test_files_fit_together(tmp_path: Path) -> None:
    features, slices = some_slices()
    np.savez(tmp_path / "features.npz", features=features, ids=slices.ids)
    results = label_slices(tmp_path, features, slices, THREE, provenance={"fold": 0})
    labels = PseudoLabels.load(tmp_path / "pseudo_labels.json")
    assert results["n_clusters"] == labels.n_clusters == 3
    assert (labels.provenance["fold"], labels.provenance["seed"]) == (0, 0)
    with np.load(tmp_path / "dendrogram.npz") as file:
        assert file["ids"].tolist() == slices.ids
        cut = cut_tree(file["tree"], 3)
    assert [labels.lookup(*_split(i)) for i in slices.ids] == cut.tolist()
    with np.load(tmp_path / "centroids.npz") as file:
        assert file["centroids"].shape == (3, 5)
        assert file["patients"].tolist() == ["p0", "p1", "p2", "p3"]
    for picture in ("elbow.png", "clusters.png", "cluster_map.png", "patients.png"):
        assert (tmp_path / picture).stat().st_size > 3000
    head, *rows = [line.split(",") for line in (tmp_path / "patients.csv").read_text().splitlines()]
    assert head[:6] == ["patient", "slices", "group", "cluster_0", "cluster_1", "cluster_2"]
    assert head[6:] == [f"{what}_{i}" for i in (1, 2, 3) for what in ("nearest", "distance")]
    assert [row[:2] for row in rows] == [[f"p{i}", "20"] for i in range(4)]
    assert sum(map(float, rows[0][3:6])) == pytest.approx(1)
    cut_again(tmp_path, 7)
    assert (tmp_path / "clusters_k7.png").is_file()
    assert "cluster_6" in (tmp_path / "patients_k7.csv").read_text()
    # pictures that show nothing but the level are clustered by it
    assert labels.provenance["agreement_of_raw_pixels"]["nmi_position"] == pytest.approx(results["nmi_position"])


@pytest.mark.parametrize(
    "method",
    [
        THREE,
        replace(THREE, linkage="average"),
        replace(THREE, linkage="complete", feature_scaling="pca", centred=False),
        replace(THREE, max_slices_in_tree=30),
        replace(THREE, clustering=AgglomerativeClustering()),
    ],
    ids=["ward", "average", "complete", "sample", "scikit-learn"],
)
def test_another_cut_is_that_of_a_new_fit(method: ClusteringMethod, tmp_path: Path) -> None:
    features, slices = some_slices()
    np.savez(tmp_path / "features.npz", features=features, ids=slices.ids)
    label_slices(tmp_path, features, slices, method)
    before = (tmp_path / "pseudo_labels.json").read_bytes()
    path = cut_again(tmp_path, 7)
    assert path.name == "pseudo_labels_k7.json"
    assert (tmp_path / "pseudo_labels.json").read_bytes() == before
    (tmp_path / "fit").mkdir()
    label_slices(tmp_path / "fit", features, slices, replace(method, n_clusters=7))
    assert json.loads(path.read_text()) == json.loads((tmp_path / "fit" / "pseudo_labels.json").read_text())


@pytest.mark.usefixtures("_no_pictures")
def test_the_tree_of_a_sample_labels_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features, slices = some_slices()
    with caplog.at_level(logging.INFO):
        label_slices(tmp_path, features, slices, replace(THREE, max_slices_in_tree=30))
    assert "random sample of 30 of the 80 slices, seed 0 (max_slices_in_tree)" in caplog.text
    sampled = PseudoLabels.load(tmp_path / "pseudo_labels.json")
    assert sampled.provenance["slices_in_tree"] == 30
    with np.load(tmp_path / "dendrogram.npz") as file:
        assert (len(file["tree"]), len(file["landmarks"]), len(file["ids"])) == (29, 30, 80)
    label_slices(tmp_path, features, slices, THREE)
    complete = PseudoLabels.load(tmp_path / "pseudo_labels.json")
    assert complete.provenance["slices_in_tree"] == 80
    # the levels are far apart: a sample finds them, too
    assert sampled.clusters == complete.clusters


@pytest.fixture(scope="module", params=METHODS, ids=lambda m: m.describe())
def labelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Any]:
    """A method, the folder that it has written, and its results."""
    folder = tmp_path_factory.mktemp("method")
    with without_pictures():
        return request.param, folder, label_slices(folder, *some_slices(), request.param)


def test_every_method_says_what_it_did(labelled: tuple[ClusteringMethod, Path, Any]) -> None:
    method, folder, results = labelled
    labels = PseudoLabels.load(folder / "pseudo_labels.json")
    origin = labels.provenance
    assert (origin["method"], origin["centred_per_patient"]) == (method.describe(), method.centred)
    assert labels.n_clusters == results["n_clusters"] == 1 + max(max(c) for c in labels.clusters.values())
    assert origin["quality"]["silhouette"] == pytest.approx(results["silhouette"], abs=1e-6)
    assert origin["quality"]["largest_share"] < 0.5
    assert results["nmi_position"] > 0.5
    assert (folder / "dendrogram.npz").is_file() == ("ggl" in method.describe())
    assert (folder / "elbow.png").is_file() == ("elbow" in origin)
    assert ("searched" in results) == ("elbow" in origin)


def test_new_slices_go_to_the_nearest_centre(labelled: tuple[ClusteringMethod, Path, Any]) -> None:
    method, folder, _ = labelled
    features, slices = some_slices()
    labels = PseudoLabels.load(folder / "pseudo_labels.json")
    own = np.array([labels.lookup(*_split(i)) for i in slices.ids])
    path = folder / "centroids.npz"
    # the levels are far apart: hardly a slice lies nearer to another centre
    assert (assign_slices(path, features, slices.patients) == own).mean() > 0.9
    if method.centred:  # a new patient, wherever its scanner puts it, is centred by its own slices
        new = ["new"] * len(features)
        shifted, unshifted = assign_slices(path, features + 100, new), assign_slices(path, features, new)
        np.testing.assert_array_equal(shifted, unshifted)


def test_assigned_slices_are_not_the_trees() -> None:
    """What the documents warn of: slices that a tree has merged early may lie nearer to another cluster's centre."""
    features = np.random.default_rng(0).normal(size=(200, 3))
    labels = cut_tree(Agglomerative().fit(features).tree_, 8)
    assert 0.5 < (assign(features, centroids(features, labels)) == labels).mean() < 1


@pytest.mark.usefixtures("_no_pictures")
@pytest.mark.parametrize("clustering", ["kmeans", "dbscan"])
def test_a_method_without_a_tree_leaves_none_to_cut(clustering: str, tmp_path: Path) -> None:
    """Not even that of an earlier method in the same folder."""
    features, slices = some_slices()
    np.savez(tmp_path / "features.npz", features=features, ids=slices.ids)
    label_slices(tmp_path, features, slices)
    assert (tmp_path / "dendrogram.npz").is_file()
    k = 3 if clustering == "kmeans" else None
    label_slices(tmp_path, features, slices, ClusteringMethod(clustering=clustering, n_clusters=k, eps=4))
    assert not (tmp_path / "dendrogram.npz").exists()
    assert not (tmp_path / "elbow.png").exists()
    with pytest.raises(InputError, match=r"k-means|DBSCAN") as error:
        cut_again(tmp_path, 7)
    assert "leaves no tree to cut" in str(error.value)
    assert str(error.value).count("\n") == 0


@pytest.mark.usefixtures("_no_pictures")
def test_quality_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    features, slices = some_slices()
    label_slices(tmp_path, features, slices, ClusteringMethod(clustering="dbscan", eps=0.01))
    said = PseudoLabels.load(tmp_path / "pseudo_labels.json").provenance["warnings"]
    assert any("80 of 80 slices are clusters of their own" in text for text in said)
    assert all(text in caplog.text for text in said)


def test_many_clusters_are_drawn_in_part(tmp_path: Path) -> None:
    features, slices = some_slices()
    label_slices(tmp_path, features, slices, ClusteringMethod(n_clusters=70))
    inches, dots = 1.2, 110
    assert imread(tmp_path / "clusters.png").shape[0] == pytest.approx(60 * inches * dots, rel=0.02)


def test_a_cut_needs_a_tree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Run ufc_feature_vae's train\.json and inference\.json first"):
        cut_again(tmp_path, 3)


def test_one_slice_a_patient_is_not_centred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two-dimensional data sets: each patient's mean is the slice itself, and centring would leave nothing."""
    features, slices = some_slices(patients=30, each=1)
    with caplog.at_level(logging.INFO):
        label_slices(tmp_path, features, slices, THREE)
    labels = PseudoLabels.load(tmp_path / "pseudo_labels.json")
    assert labels.provenance["centred_per_patient"] is False
    assert "not centred" in caplog.text
    assert "follow the patient" not in caplog.text


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 48), (37, 20), (8, 30)])
def test_raw_pixels_are_means_of_blocks(height: int, width: int) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    vectors = raw_pixels(pictures)
    if min(height, width) < 16:
        np.testing.assert_array_equal(vectors, pictures.reshape(3, -1))
        return
    assert vectors.shape == (3, 256)
    first = pictures[:, : height // 16, : width // 16].reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(vectors[:, 0], first)


def test_raw_colours_are_means_of_blocks_too() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 37, 20, 3), dtype=np.uint8)
    vectors = raw_pixels(pictures)
    assert vectors.shape == (3, 768)
    for channel in range(3):
        np.testing.assert_allclose(vectors[:, channel::3], raw_pixels(pictures[..., channel]))


def _split(name: str) -> tuple[str, int]:
    image, _, index = name.rpartition("#")
    return image, int(index)
