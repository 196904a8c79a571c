"""Patients by their histograms over clusters, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ufc_monai.clustering.patients import stratify


def test_histograms_and_distances_equal_the_loop() -> None:
    draw = np.random.default_rng(0)
    labels, patients = draw.integers(4, size=60), [f"p{i}" for i in draw.integers(5, size=60)]
    found = stratify(labels, patients, 4)
    assert found.names == sorted(set(patients))
    shares = {
        name: [sum(p == name and c == k for p, c in zip(patients, labels, strict=True)) for k in range(4)]
        for name in found.names
    }
    shares = {name: [n / sum(row) for n in row] for name, row in shares.items()}
    assert found.shares.tolist() == [pytest.approx(shares[name]) for name in found.names]
    assert found.sizes.sum() == 60
    for i, name in enumerate(found.names):
        distances = {
            other: math.sqrt(
                sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(shares[name], row, strict=True)) / 2
            )
            for other, row in shares.items()
            if other != name
        }
        nearest = sorted(distances, key=distances.__getitem__)[:3]
        assert [found.names[j] for j in found.nearest[i]] == nearest
        assert found.distances[i].tolist() == pytest.approx([distances[other] for other in nearest])


def test_two_kinds_of_patients_lie_apart() -> None:
    labels = np.array([0, 0, 1, 0, 0, 1, 2, 2, 2, 2, 2, 2])
    found = stratify(labels, [name for name in "abcd" for _ in range(3)], 3)
    gaps = np.linalg.norm(found.points[:, None] - found.points, axis=2)
    assert gaps[0, 1] < 1e-9
    assert gaps[2, 3] < 1e-9
    assert gaps[0, 2] == pytest.approx(1), "the map shows how far: no cluster in common"
    assert found.distances[0].tolist() == pytest.approx([0, 1, 1])
    assert found.nearest[0, 0] == 1
    assert found.points.shape == (4, 2)


def test_groups_are_of_patients_that_are_alike() -> None:
    labels = np.array([2, 2, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    assert stratify(labels, [name for name in "abcdef" for _ in range(2)], 3).groups.tolist() == [2, 0, 1, 1, 0, 0]
    assert stratify(np.array([0, 1]), ["a", "b"], 2).groups.tolist() == [0, 1], "of two patients there are two"


def test_patients_that_are_all_alike_lie_in_one_place() -> None:
    found = stratify(np.array([0, 1, 0, 1, 0, 1]), ["a", "a", "b", "b", "c", "c"], 2)
    assert not found.points.any()
    assert not found.distances.any()


def test_of_two_patients_each_is_the_other_s_nearest() -> None:
    found = stratify(np.array([0, 1, 1, 1]), ["a", "a", "b", "b"], 2)
    assert found.nearest.tolist() == [[1], [0]]
