from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.base.spool import Spool


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, dtype: str) -> None:
    rng, spool = np.random.default_rng(0), Spool(tmp_path / "new")
    parts = [rng.integers(0, 99, (n, 3, 2)).astype(dtype) for n in (1, 5, 2)]
    for part in parts:
        spool.add(part.transpose(0, 2, 1))  # not in the order of memory
    rows = spool.rows()
    np.testing.assert_array_equal(rows, np.concatenate(parts).transpose(0, 2, 1))
    assert rows.dtype == dtype
    spool.add(parts[0].transpose(0, 2, 1))
    assert len(rows) == 8
    assert len(spool.rows()) == 9


def test_the_file_has_no_name_and_the_rows_outlive_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(np.arange(4.0)[:, None])
    rows = spool.rows()
    del spool
    assert list(tmp_path.iterdir()) == []
    assert rows[:, 0].tolist() == [0, 1, 2, 3]


def test_rows_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.add(np.zeros((2, 3)))
    for other in (np.zeros((2, 4)), np.zeros((2, 3), dtype=np.float32)):
        with pytest.raises(ValueError, match=r"expected rows of \(3,\) float64"):
            spool.add(other)


def test_a_full_disk_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: open("/dev/full", "w+b"))  # noqa: SIM115
    spool = Spool(tmp_path)
    spool.add(np.zeros((2, 3)))
    with pytest.raises(InputError, match="the disk is full"):
        spool.rows()
    del spool
    gc.collect()  # what is still unwritten raises nothing
