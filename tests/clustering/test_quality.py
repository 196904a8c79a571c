from __future__ import annotations

import tracemalloc
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from ufc_monai.clustering.quality import agreement, cluster_quality, count_false_negatives, quality_warnings, raw_pixels


def test_figures_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    features = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [9.0]])
    figures = cluster_quality(features, labels)
    assert figures["largest_share"] == 0.5
    assert figures["single_slices"] == 1
    assert figures["silhouette"] == pytest.approx(silhouette_score(features, labels))


@pytest.mark.parametrize("labels", [np.zeros(6, dtype=np.int64), np.arange(6)])
def test_no_silhouette_of_one_cluster_or_of_single_slices(labels: np.ndarray) -> None:
    assert "silhouette" not in cluster_quality(np.eye(6), labels)


@pytest.mark.parametrize("shape", [(2, 8, 30), (2, 30, 8, 3)])
def test_small_pictures_are_taken_as_they_are(shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, shape)
    np.testing.assert_array_equal(raw_pixels(pictures), [picture.ravel() for picture in pictures])


@pytest.mark.parametrize("colours", [(), (3,)])
def test_large_pictures_are_means_of_their_parts(colours: tuple[int, ...]) -> None:
    parts = np.random.default_rng(0).integers(0, 255, (2, 16, 2, 16, 3, *colours))
    means = parts.mean(axis=(2, 4)).reshape(2, -1)
    np.testing.assert_allclose(raw_pixels(parts.reshape(2, 32, 48, *colours)), means)


def test_silhouette_is_that_of_a_seeded_sample() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2500)
    features = 3 * np.eye(3)[labels] + rng.normal(size=(2500, 3))
    one, again, other = (cluster_quality(features, labels, seed=seed)["silhouette"] for seed in (0, 0, 1))
    assert one == again != other
    assert one == pytest.approx(silhouette_score(features, labels), abs=0.02)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([40, 30, 30], None),
        ([60, 40], None),
        ([80, 15, 5], "one cluster holds 80 % of the slices"),
        ([40, *[1] * 60], "60 of 100 slices are clusters of their own"),
    ],
)
def test_sizes_that_leave_little_to_contrast(sizes: list[int], words: str | None) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    texts = quality_warnings({}, cluster_quality(np.zeros((100, 2)), labels), len(sizes), 100)
    assert len(texts) == (words is not None)
    assert words is None or words in texts[0]


PATIENTS = [f"p{i // 20}" for i in range(80)]
POSITIONS = np.tile(np.linspace(0, 1, 20), 4)
FINE = {"single_slices": 0, "largest_share": 0.4}


def test_clusters_that_are_patients() -> None:
    figures = agreement(np.arange(80) // 20, PATIENTS, POSITIONS)
    assert figures["nmi_patient"] == pytest.approx(1)
    assert figures["nmi_position"] == pytest.approx(0, abs=1e-9)
    assert figures["same_patient_share"] == 1
    [text] = quality_warnings(figures, FINE, 3, 80)
    assert "follow the patient (NMI 1.00) more than the position in the body (NMI 0.00)" in text


def test_clusters_that_are_positions() -> None:
    figures = agreement(np.minimum((POSITIONS * 10).astype(np.int64), 9), PATIENTS, POSITIONS)
    assert figures["nmi_position"] == pytest.approx(1)
    assert figures["nmi_patient"] == pytest.approx(0, abs=1e-9)
    assert quality_warnings(figures, FINE, 3, 80) == []


def test_random_clusters_pair_patients_as_chance_does() -> None:
    figures = agreement(np.random.default_rng(0).integers(0, 3, 80), PATIENTS, POSITIONS)
    assert figures["same_patient_share"] == pytest.approx(figures["same_patient_chance"], abs=0.03)


def test_shares_against_a_loop_over_pairs() -> None:
    labels = np.random.default_rng(1).integers(0, 6, 80)
    pairs = list(combinations(range(80), 2))
    same = [PATIENTS[i] == PATIENTS[j] for i, j in pairs]
    together = [s for s, (i, j) in zip(same, pairs, strict=True) if labels[i] == labels[j]]
    figures = agreement(labels, PATIENTS, POSITIONS)
    assert figures["same_patient_share"] == pytest.approx(np.mean(together))
    assert figures["same_patient_chance"] == pytest.approx(np.mean(same))


def test_every_slice_its_own_cluster() -> None:
    figures = agreement(np.arange(80), PATIENTS, POSITIONS)
    assert figures["same_patient_share"] == 0
    assert all(np.isfinite(value) for value in figures.values())


def test_warning_only_if_patients_win() -> None:
    assert quality_warnings({"nmi_patient": 0.4, "nmi_position": 0.4}, FINE, 3, 80) == []
    assert quality_warnings({"nmi_patient": 0.5, "nmi_position": 0.4}, FINE, 3, 80)


def counted(present: Any, clusters: Any, positions: Any) -> dict[str, dict[str, float | None]]:
    """The same by a loop over all pairs."""
    pairs = list(combinations(range(len(present)), 2))
    mates = {
        "simclr": lambda i, j: False,
        "glcl": lambda i, j: int(4 * positions[i]) == int(4 * positions[j]),
        "pcl": lambda i, j: abs(positions[i] - positions[j]) < 0.1,
        "ufc": lambda i, j: clusters[i] == clusters[j],
    }
    rows: dict[str, dict[str, float | None]] = {}
    for method, mate in mates.items():
        together: list[bool] = []
        apart: list[bool] = []
        for i, j in pairs:
            alike = bool(present[i].any()) and bool((present[i] == present[j]).all())
            (together if mate(i, j) else apart).append(alike)  # type: ignore[no-untyped-call]
        rows[method] = {
            "pushed_apart": len(apart) / len(pairs) if pairs else None,
            "false_negatives": sum(apart) / len(apart) if apart else None,
            "true_positives": sum(together) / len(together) if together and method in ("pcl", "ufc") else None,
        }
    return rows


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_against_a_loop_over_pairs(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 14))
    numbers = data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    present = np.array([[number & 1, number & 2] for number in numbers]) > 0
    clusters = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    # sixty-fourths, so that no difference is near the threshold
    positions = np.array(data.draw(st.lists(st.integers(0, 63), min_size=n, max_size=n))) / 64
    found = count_false_negatives(present, clusters, positions)
    for method, row in counted(present, clusters, positions).items():
        for name, value in row.items():
            rounded = None if value is None else pytest.approx(value, abs=5.1e-5)
            assert found[method][name] == rounded


def test_clusters_that_are_the_anatomy_have_no_false_negatives() -> None:
    level = np.tile(np.arange(3), 20)
    rows = count_false_negatives(np.eye(3, dtype=bool)[level], level)
    assert rows["ufc"]["false_negatives"] == 0
    assert rows["ufc"]["true_positives"] == 1
    assert rows["simclr"]["false_negatives"] == pytest.approx(19 / 59, abs=1e-4)
    assert rows["simclr"]["true_positives"] is None
    assert set(rows) == {"simclr", "ufc"}


def test_single_clusters_are_simclr() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((50, 3)) > 0.5
    rows = count_false_negatives(present, np.arange(50))
    assert rows["ufc"] == rows["simclr"]


def test_empty_slices_are_not_alike() -> None:
    rows = count_false_negatives(np.zeros((9, 2), dtype=bool), np.zeros(9, dtype=np.int64))
    assert rows["simclr"]["false_negatives"] == 0
    assert rows["ufc"] == {"pushed_apart": 0, "false_negatives": None, "true_positives": 0}


def test_many_slices_make_no_table_of_pairs() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    tracemalloc.start()
    count_false_negatives(rng.random((n, 7)) > 0.5, rng.integers(0, 30, n), rng.random(n))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < n**2 / 8  # one bit a pair
