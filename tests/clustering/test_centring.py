from __future__ import annotations

import numpy as np

from ufc_monai.clustering.centring import centre_per_patient


def test_every_patient_has_mean_zero_and_its_mean_is_told() -> None:
    features = np.array([[1.0, 2.0], [10.0, 0.0], [3.0, 6.0], [20.0, 4.0]], dtype=np.float32)
    centred, means = centre_per_patient(features, ["b", "a", "b", "a"])
    np.testing.assert_array_equal(centred, [[-1, -2], [-5, -2], [1, 2], [5, 2]])
    assert list(means) == ["a", "b"]
    np.testing.assert_array_equal(means["a"], [15, 2])
    np.testing.assert_array_equal(means["b"], [2, 4])


def test_shift_of_one_patient_is_removed() -> None:
    features = np.random.default_rng(0).normal(size=(20, 3))
    patients = ["a"] * 12 + ["b"] * 8
    shifted = features + np.where(np.arange(20) < 12, 100.0, 0.0)[:, None]
    np.testing.assert_allclose(centre_per_patient(shifted, patients)[0], centre_per_patient(features, patients)[0])


def test_input_is_left_alone() -> None:
    features = np.ones((3, 2))
    centre_per_patient(features, ["a", "a", "b"])
    np.testing.assert_array_equal(features, np.ones((3, 2)))
