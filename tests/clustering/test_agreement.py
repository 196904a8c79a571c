from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ufc_monai.clustering.agreement import agreement, warning

PATIENTS = [f"p{i // 20}" for i in range(80)]
POSITIONS = np.tile(np.linspace(0, 1, 20), 4)


def test_clusters_that_are_patients() -> None:
    figures = agreement(np.arange(80) // 20, PATIENTS, POSITIONS)
    assert figures["nmi_patient"] == pytest.approx(1)
    assert figures["nmi_position"] == pytest.approx(0, abs=1e-9)
    assert figures["same_patient_share"] == 1
    text = warning(figures)
    assert text is not None
    assert "follow the patient (NMI 1.00) more than the position in the body (NMI 0.00)" in text


def test_clusters_that_are_positions() -> None:
    figures = agreement(np.minimum((POSITIONS * 10).astype(np.int64), 9), PATIENTS, POSITIONS)
    assert figures["nmi_position"] == pytest.approx(1)
    assert figures["nmi_patient"] == pytest.approx(0, abs=1e-9)
    assert warning(figures) is None


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
    assert warning({"nmi_patient": 0.4, "nmi_position": 0.4}) is None
    assert warning({"nmi_patient": 0.5, "nmi_position": 0.4}) is not None
