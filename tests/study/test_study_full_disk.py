"""On a full disk a study's report, or its plan, is what it was before; with space made it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from full_disk import content, full_at
from test_study_report import ABOUT, Study, pattern

from ufc_monai.study import statistics
from ufc_monai.study.report import write_study_report
from ufc_monai.study.runs import read_plan, write_plan

NAMES = ("study.csv", "study_figures.json", "dice_by_labels.png", "dice_by_structure.png", "study.md", "study.html")


@pytest.mark.parametrize("name", NAMES)
def test_reports(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 99)
    study = Study(tmp_path, methods=("random", "ufc"), budgets=("1",), folds=1, seeds=1, patients=8, init_seeds=1)
    study.finish(pattern)
    (tmp_path / name).write_bytes(b"an earlier report")
    before = content(tmp_path)
    with full_at(name) as said:
        write_study_report(tmp_path, study.runs, ABOUT)
    assert said[0].startswith(f"the disk is full: {tmp_path / name} was not written; what was there before stands.")
    assert len(said[0].splitlines()) == 1
    after = content(tmp_path)
    assert after[name] == b"an earlier report"
    assert {key: after[key] for key in before} == before
    assert not list(tmp_path.rglob(".*"))
    write_study_report(tmp_path, study.runs, ABOUT)
    assert set(NAMES) <= content(tmp_path).keys()
    assert content(tmp_path)[name] != b"an earlier report"


def test_plans(tmp_path: Path) -> None:
    study = Study(tmp_path, budgets=("1",), folds=1, seeds=1, patients=8)
    write_plan(tmp_path, study.runs[:1], {"a": 1})
    with full_at("study.json") as said:
        write_plan(tmp_path, study.runs, {"a": 2})
    assert "study.json was not written" in said[0]
    assert read_plan(tmp_path) == (study.runs[:1], {"a": 1})
    write_plan(tmp_path, study.runs, {"a": 2})
    assert read_plan(tmp_path) == (study.runs, {"a": 2})
