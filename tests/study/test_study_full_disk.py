"""A full disk, or a folder that may not be written to, where a study itself writes: what was there stands.

With space made the same command ends with what it should have ended with.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from full_disk import content, full_at
from test_every_seam import FAULTS, MAY_LACK, writes
from test_study_report import ABOUT, Study, pattern

from ufc_monai.base.errors import last_words
from ufc_monai.base.files import read_json, write_json
from ufc_monai.base.host import Host
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.planning.stages import Step
from ufc_monai.study import command, statistics
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.report import write_study_report
from ufc_monai.study.runs import CLUSTERS, read_plan, write_plan

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


def pretend(step: Step, host: Host, *_: Any, **__: Any) -> int:
    """Leave what a stage leaves, and compute nothing."""
    folder = host.folder
    run = next(run for run in read_plan(folder)[0] if run.name == step.title)
    if run.kind == CLUSTERS:
        images = read_json(folder / "split.json", "--folder")["images"]
        PseudoLabels({image: [0, 1] for image in images}, 2, {}).save(folder / run.folder / "pseudo_labels.json")
    write_json(folder / step.record, {"status": "complete", "asked": step.asked(folder, {}), "results": {}})
    return 0


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyOptions:
    """A small study with runs of every kind, whose stages and report compute nothing."""
    monkeypatch.setattr(command, "look_at_data", lambda *_: [])
    monkeypatch.setattr(command, "estimate_runs", lambda *_: ({}, 1, 1))
    monkeypatch.setattr(command, "measured_seconds", lambda _, runs, __: {run.name: 1.0 for run in runs})
    monkeypatch.setattr(command, "write_study_report", lambda *_: None)  # :func:`test_reports`
    for i in range(8):
        for part in ("image", "label"):
            path = tmp_path / "data" / f"p{i}_{part}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{part}{i}")
    return StudyOptions(
        tmp_path / "data",
        tmp_path / "my study",
        ROOT / "bundles",
        preset="cpu",
        methods=("random", "ufc_random_clusters"),
        selection=("random", "coverage"),
        budgets=("1",),
        folds=1,
    )


def told(options: StudyOptions, caplog: pytest.LogCaptureFixture) -> str:
    """What a user is told when a study, or a run of it, fails; nothing if none does."""
    caplog.clear()
    try:
        command.run_study(options)
    except Exception as error:
        said = last_words(error)
        failed = [record.getMessage() for record in caplog.records if ": FAILED: " in record.getMessage()]
        return failed[0] if "runs failed" in said else said
    return ""


@pytest.mark.slow
def test_every_seam_of_a_study(
    options: StudyOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stages are programs of their own. A run that cannot write fails by name, and what needs it waits.

    Where bundles are copied :func:`~test_run_full_disk.test_every_seam_of_a_run` holds it.
    """
    seams, stages = list[str](), set[int]()

    def apart(step: Step, *given: Any, **how: Any) -> int:
        stages.add(threading.get_ident())
        try:
            return pretend(step, *given, **how)
        finally:
            stages.clear()

    def note(seam: str) -> bool:
        if threading.get_ident() not in stages and " ufc_" not in seam:
            seams.append(seam)
        return False

    monkeypatch.setattr(Step, "run", apart)
    with writes(options.folder, 0, note):
        command.run_study(options)
    whole = content(options.folder)
    assert {"selection.json", "pseudo_labels.json", "study.json"} <= {Path(name).name for name in whole}
    for n, seam in enumerate(dict.fromkeys(seams)):
        shutil.rmtree(options.folder)
        fault = list(FAULTS)[n % 2]

        def fails(name: str, seam: str = seam) -> bool:
            return name == seam and threading.get_ident() not in stages

        with writes(options.folder, fault, fails):
            said = told(options, caplog)
        if not any(name in seam for name in MAY_LACK):
            assert FAULTS[fault] in said, (seam, said)
            assert str(options.folder) in said, (seam, said)
            assert len(said.splitlines()) <= 2, (seam, said)
        assert not [path for path in options.folder.rglob(".*") if path.suffix != ".lock"], seam
        assert not told(options, caplog), seam
        after = content(options.folder)
        differ = {name for name in whole.keys() | after.keys() if whole.get(name) != after.get(name)}
        assert differ <= MAY_LACK, seam
