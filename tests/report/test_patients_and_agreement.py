"""Pictures of patients and of agreement: none, one and many of what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ufc_monai.report.agreement import save_agreement
from ufc_monai.report.patients import save_patient_map


@pytest.mark.parametrize("n", [1, 2, 60])
def test_maps_of_few_and_many_patients(n: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(255, size=(n, 16, 16, 3) if n == 2 else (n, 16, 16), dtype=np.uint8)
    save_patient_map(tmp_path / "map.png", draw.normal(size=(n, 2)), pictures, [f"a $name$ {i}" for i in range(n)])
    assert (tmp_path / "map.png").stat().st_size > 3000


def test_methods_may_lack_measures(tmp_path: Path) -> None:
    whole = {"accuracy": 0.7, "accuracy_low": 0.6, "accuracy_high": 0.8}
    rows = {"one": whole, "another": {**whole, "ari": -0.1, "ari_low": -0.2, "ari_high": 0.0}}
    save_agreement(tmp_path / "agreement.png", rows, ("accuracy", "ari", "knn"), 0.5)
    assert (tmp_path / "agreement.png").stat().st_size > 3000
