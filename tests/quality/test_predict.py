"""A predicted Dice from what a mask shows of itself."""

from __future__ import annotations

import numpy as np
import pytest

from ufc_monai.quality.predict import (
    WEIGHTS,
    Calibration,
    Place,
    Signs,
    Usual,
    calibrate,
    distance,
    evidence,
    farthest_usual,
    rank_correlation,
)

HERE = (0.5, 0.5, 0.5)
GOOD = Signs(0.95, 0.95, 0.0, Place(100.0, HERE))


def test_what_disagrees_is_unsure_or_lies_elsewhere_is_predicted_lower() -> None:
    usual = Usual.of([Place(100.0, HERE), Place(110.0, HERE)], scans=2)
    dice = Calibration().dice
    best = dice(GOOD, usual)
    assert best is not None
    assert best > 0.8
    worse = [
        GOOD._replace(agreement=0.5),
        GOOD._replace(confidence=0.6),
        GOOD._replace(place=Place(5.0, HERE)),
        GOOD._replace(place=Place(100.0, (0.1, 0.5, 0.5))),
    ]
    assert all((dice(signs, usual) or 0) < best for signs in worse)
    assert dice(GOOD._replace(agreement=0.0, confidence=0.0), usual) == 0


def test_a_structure_that_was_not_found_is_missing_only_where_scans_hold_it() -> None:
    gone = Signs(0.0, 0.0, 0.0, Place(0.0, HERE))
    places = [Place(100.0, HERE)]
    assert Calibration().dice(gone, Usual.of(places, scans=1)) == 0
    assert Calibration().dice(gone, Usual.of(places, scans=3)) is None
    assert Calibration().dice(gone) is None


def test_a_few_labelled_scans_do_not_make_everything_strange() -> None:
    one = Usual.of([Place(100.0, HERE)], scans=1)
    assert evidence(GOOD._replace(place=Place(130.0, HERE)), one)[4] < 1
    assert evidence(GOOD._replace(place=Place(1.0, HERE)), one)[4] == 6
    many = Usual.of([Place(100.0 + n, HERE) for n in range(50)], scans=50)
    assert evidence(GOOD._replace(place=Place(200.0, HERE)), many)[4] > 3


def test_calibration_finds_what_volumes_say_and_measures_it_on_volumes_left_out() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([0.1, 0.5, 0.2, -0.3, -0.02, 0.0])
    rows = np.column_stack([np.ones(200), generator.random((200, 3)), generator.uniform(0, 6, (200, 2))])
    dice = rows @ truth
    found = calibrate(rows, dice, [str(k // 10) for k in range(200)])
    assert found.volumes == 20
    assert found.weights == pytest.approx(truth, abs=0.1)
    assert found.mean_error is not None
    assert found.mean_error < 0.03
    assert found.rank_correlation is not None
    assert found.rank_correlation > 0.9
    assert str(found).startswith(
        "calibrated on 20 validation volumes: rank correlation of scans 0.97, mean error 0.018"
    )
    noise = calibrate(rows, generator.random(200), [str(k // 10) for k in range(200)])
    assert abs(noise.rank_correlation or 0) < 0.5, "a fit must not be judged by what it was fitted to"


def test_without_validation_volumes_nothing_is_claimed() -> None:
    found = calibrate(np.zeros((0, 6)), np.zeros(0), [])
    assert found.weights == pytest.approx(WEIGHTS)
    assert str(found).startswith("not calibrated")


def test_one_volume_is_judged_by_the_weights_that_hold_without_it() -> None:
    rows = np.array([[1.0, 0.9, 0.9, 0.0, 0.0, 0.0]])
    found = calibrate(rows, np.array([0.5]), ["a"])
    assert found.mean_error == pytest.approx(abs(float(rows[0] @ WEIGHTS) - 0.5))
    assert found.rank_correlation is None


def test_scans_that_are_all_alike_have_no_ranks() -> None:
    assert rank_correlation(np.array([0.1, 0.2, 0.3]), np.full(3, 0.5)) is None


def test_a_scan_of_another_kind_is_farther_than_those_validated() -> None:
    generator = np.random.default_rng(0)

    def scan(kind: int = 0) -> np.ndarray:
        """Slices whose features run along a curve, from feet to head, in two dimensions of its own."""
        place, features = np.linspace(-1, 1, 40), generator.normal(0, 0.01, (40, 8))
        features[:, 2 * kind] += place
        features[:, 2 * kind + 1] += 1 - place**2
        return features.astype(np.float32)

    training, validation = [scan(), scan()], [scan(), scan()]
    for limit in (farthest_usual(training, validation), farthest_usual(training, [])):
        assert limit is not None
        assert distance(scan(), np.concatenate(training)) < limit < distance(scan(1), np.concatenate(training))
    assert farthest_usual(training[:1], []) is None
