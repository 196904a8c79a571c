from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from ufc_monai.clustering.quality import agreement, cluster_quality, quality_warnings


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
