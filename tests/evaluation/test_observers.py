"""Measures of agreement on planted clusters, against loops and by what they must say of chance."""

from __future__ import annotations

import doctest
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refused
from numpy.typing import NDArray

from ufc_monai.data.slices import SliceDataset
from ufc_monai.evaluation import agreement, observers
from ufc_monai.evaluation.agreement import (
    Observed,
    contingency,
    judge,
    k_means,
    majority_classes,
    majority_rate,
    matched_classes,
    with_interval,
)
from ufc_monai.evaluation.observers import area, level, read_labels

NAMES = ("a", "b", "c")


def observed(n: int = 60, seed: int = 0) -> Observed:
    classes = np.random.default_rng(seed).integers(3, size=2 * n)
    training = classes[:n].copy()
    training[::4] = -1
    return Observed(training, classes[n:], np.array([f"p{i % 6}" for i in range(n)]), NAMES)


def codes_of(classes: NDArray[np.int64], noise: float, seed: int) -> NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    return np.asarray(5 * np.eye(3)[np.maximum(classes, 0)] + noise * draw.normal(size=(len(classes), 3)))


def test_clusters_that_are_the_classes_are_right_everywhere() -> None:
    seen = observed()
    codes = codes_of(seen.training, 0.1, 1), codes_of(seen.held_out, 0.1, 2)
    turned = (np.maximum(seen.training, 0) + 1) % 3, (seen.held_out + 1) % 3
    row = judge(seen, codes, turned, 3)
    for measure in ("accuracy", "hungarian", "nmi", "ari", "knn", "linear_probe"):
        assert [row[measure], row[f"{measure}_low"], row[f"{measure}_high"]] == pytest.approx([1, 1, 1]), measure
    assert row["silhouette"] > 0.9
    assert row["davies_bouldin"] < 0.2


def test_clusters_by_chance_are_no_better_than_the_most_frequent_class() -> None:
    seen, draw = observed(600), np.random.default_rng(3)
    codes = draw.normal(size=(600, 4)), draw.normal(size=(600, 4))
    row = judge(seen, codes, (draw.integers(2, size=600), draw.integers(2, size=600)), 2)
    assert "hungarian" not in row, "two clusters, three classes"
    assert abs(row["accuracy"] - majority_rate(seen)["accuracy"]) < 0.06
    assert row["nmi"] < 0.02
    assert row["ari_low"] <= row["ari"] <= row["ari_high"]
    assert abs(row["ari"]) < 0.02


def test_votes_are_those_of_the_training_labels() -> None:
    counts = contingency(np.array([0, 0, 0, 1, 3]), np.array([1, 1, 2, 2, 2]), 4, 3)
    assert counts.tolist() == [[0, 2, 1], [0, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert majority_classes(counts).tolist() == [1, 2, 2, 2], (
        "the third has no slice, and takes what most clusters have"
    )


def test_a_class_of_its_own_for_each_cluster_is_the_best_of_all_orders() -> None:
    counts = np.random.default_rng(4).integers(20, size=(4, 4))
    best = max(sum(counts[i, c] for i, c in enumerate(order)) for order in itertools.permutations(range(4)))
    assert counts[range(4), matched_classes(counts)].sum() == best


def test_intervals_draw_patients_not_slices() -> None:
    """Slices of a patient are alike: drawn one by one they would promise too much."""
    values = np.repeat([0.0, 1.0], 50)
    few = with_interval("x", lambda some: float(values[some].mean()), np.repeat(["p", "q"], 50))
    many = with_interval("x", lambda some: float(values[some].mean()), np.arange(100).astype(str))
    assert few == {"x": 0.5, "x_low": 0.0, "x_high": 1.0}
    assert 0.35 < many["x_low"] < 0.5 < many["x_high"] < 0.65


def test_k_means_gives_held_out_slices_the_nearest_centre() -> None:
    seen = observed()
    learned, judged = k_means((codes_of(seen.training, 0.1, 1), codes_of(seen.held_out, 0.1, 2)), 3)
    assert len(set(zip(judged.tolist(), seen.held_out.tolist(), strict=True))) == 3
    assert learned.shape == (60,)


def test_examples() -> None:
    assert doctest.testmod(agreement).failed == 0
    assert doctest.testmod(observers).failed == 0


def slices_with(counts: list[list[int]], monkeypatch: pytest.MonkeyPatch) -> SliceDataset:
    """Slices a, b, ... of a patient each, by the pixels of each class."""
    items = [{"id": f"{name}#0", "patient": name} for name, _ in zip("abcdef", counts, strict=False)]
    monkeypatch.setattr(SliceDataset, "items", items, raising=False)
    monkeypatch.setattr(SliceDataset, "class_counts", lambda *_: torch.tensor(counts))
    return SliceDataset.__new__(SliceDataset)


def test_thirds_are_those_of_the_training_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = slices_with([[9, pixels] for pixels in (1, 2, 3, 100, 200, 0)], monkeypatch)
    found = area(slices, ["liver"], {"a", "b", "c"})
    assert found == {"a#0": "small", "b#0": "middle", "c#0": "large", "d#0": "large", "e#0": "large"}


def test_a_level_is_the_rarest_structure_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = slices_with([[9, 9, 0], [9, 9, 1], [9, 0, 0], [9, 1, 1], [9, 0, 9]], monkeypatch)
    found = level(slices, ["liver", "kidney"], {"a", "b", "c"})
    assert found == {"a#0": "liver", "b#0": "kidney", "c#0": "none", "d#0": "kidney", "e#0": "kidney"}
    assert level(slices, ["liver", "kidney"], {"e"})["d#0"] == "liver", "which the training patients show less often"


IMAGES = {"a.png": 1, "b.png": 1, "v.nii.gz": 3}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_labels_are_of_images_or_of_slices(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "image,label", "a.png,one", "v.nii.gz#002,two", "b.png,two")
    assert read_labels(file, IMAGES) == {"a.png#0": "one", "v.nii.gz#2": "two", "b.png#0": "two"}
    file = write(tmp_path / "labels.csv", "label,image", "one,a.png", "two,v.nii.gz")
    assert set(read_labels(file, IMAGES)) == {"a.png#0", *(f"v.nii.gz#{i}" for i in range(3))}


def test_rows_that_are_not_filled_in_are_no_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "image,label", "a.png,one", "b.png, ", "v.nii.gz#0", "v.nii.gz#2,two")
    assert read_labels(file, IMAGES) == {"a.png#0": "one", "v.nii.gz#2": "two"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["image,class", "a.png,1"], "must have a first line image,label"),
        ([], "must have a first line image,label"),
        (["image,label", "a.pgn,1", "b.png,2"], "names a.pgn, which the data set does not have. Did you mean a.png?"),
        (["image,label", "a.png,1", "v.nii.gz#3,2"], "names v.nii.gz#3, which the data set does not have"),
        (["image,label", "a.png,1", "v.nii.gz#²,2"], "names v.nii.gz#², which the data set does not have"),
        (["image,label", "v.nii.gz#1,1", "v.nii.gz#01,2"], "names v.nii.gz#1 twice"),
        (["image,label", "a.png,1", "b.png,2", "a.png,2"], "names a.png#0 twice"),
        (["image,label", "a.png,1", "b.png,", "v.nii.gz"], "has labels for 1 of 3 images, fewer than half"),
        (["image,label", "a.png,1"], "has labels for 1 of 3 images, fewer than half"),
        (["image,label", "a.png,1", "b.png,1"], "has one class (1); there is nothing to tell apart"),
    ],
)
def test_labels_that_do_not_fit_are_refused(lines: list[str], words: str, tmp_path: Path) -> None:
    with refused() as message:
        read_labels(write(tmp_path / "labels.csv", *lines), IMAGES)
    assert words in message[0]
    assert len(message[0].splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with refused() as message:
        read_labels(tmp_path / "labels.csv", IMAGES)
    assert "cannot be read" in message[0]
