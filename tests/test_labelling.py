from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ufc_monai.clustering import PseudoLabels, cut_tree
from ufc_monai.errors import InputError
from ufc_monai.labelling import Slices, cut_again, label_slices, raw_pixels


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
    results = label_slices(tmp_path, features, slices, n_clusters=3, k_range=(2, 9), provenance={"seed": 0})
    labels = PseudoLabels.load(tmp_path / "pseudo_labels.json")
    assert results["n_clusters"] == labels.n_clusters == 3
    assert labels.provenance["seed"] == 0
    with np.load(tmp_path / "dendrogram.npz") as file:
        assert file["ids"].tolist() == slices.ids
        cut = cut_tree(file["tree"], 3)
    assert [labels.lookup(*_split(i)) for i in slices.ids] == cut.tolist()
    with np.load(tmp_path / "centroids.npz") as file:
        assert file["centroids"].shape == (3, 5)
        assert file["patients"].tolist() == ["p0", "p1", "p2", "p3"]
    for picture in ("elbow.png", "clusters.png", "cluster_map.png"):
        assert (tmp_path / picture).stat().st_size > 3000
    # pictures that show nothing but the level are clustered by it
    assert labels.provenance["agreement_of_raw_pixels"]["nmi_position"] == pytest.approx(results["nmi_position"])


def test_another_cut_is_that_of_a_new_fit(tmp_path: Path) -> None:
    features, slices = some_slices()
    np.savez(tmp_path / "features.npz", features=features, ids=slices.ids)
    label_slices(tmp_path, features, slices, n_clusters=3, k_range=(2, 9))
    before = (tmp_path / "pseudo_labels.json").read_bytes()
    path = cut_again(tmp_path, 7)
    assert path.name == "pseudo_labels_k7.json"
    assert (tmp_path / "pseudo_labels.json").read_bytes() == before
    (tmp_path / "fit").mkdir()
    label_slices(tmp_path / "fit", features, slices, n_clusters=7, k_range=(2, 9))
    assert json.loads(path.read_text()) == json.loads((tmp_path / "fit" / "pseudo_labels.json").read_text())
    assert (tmp_path / "clusters_k7.png").is_file()


def test_a_cut_needs_a_tree(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run ufc_feature_vae's inference"):
        cut_again(tmp_path, 3)


def test_one_slice_a_patient_is_not_centred(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two-dimensional data sets: each patient's mean is the slice itself, and centring would leave nothing."""
    features, slices = some_slices(patients=30, each=1)
    with caplog.at_level(logging.INFO):
        label_slices(tmp_path, features, slices, n_clusters=3, k_range=(2, 9))
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
