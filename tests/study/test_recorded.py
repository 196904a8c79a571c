"""The two files of a study are enough to make its tables and its verdict anew."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from results_tables import filled
from test_study_report import NASTY, Study, pattern

from ufc_monai.report.page import markdown_cell, markdown_table
from ufc_monai.study import statistics
from ufc_monai.study.results import Results, read_results
from ufc_monai.study.runs import Run
from ufc_monai.study.tables import study_tables, verdict


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


def stuck(run: Run) -> list[str]:
    return ["left atrium", NASTY] if run.seed == 1 else []


def test_a_studys_tables_are_made_anew_from_its_files(tmp_path: Path) -> None:
    study = Study(tmp_path, methods=("random", "ufc"), clusterings=("agglomerative:3",), seeds=2, init_seeds=2)
    study.finish(lambda run, p: 0.5 + 0.01 * int(p[1:]) + 0.02 * (run.init_seed or 0), stuck=stuck)
    results = read_results(tmp_path, study.runs, ["agglomerative:3"])
    results.save(tmp_path)
    again = Results.load(tmp_path / "study.csv")
    assert again.clusterings == ["agglomerative:3"]
    tables = study_tables(results)
    assert sum(len(table.rows) for table in tables) > 30
    assert study_tables(again) == tables
    assert verdict(again) == verdict(results)


def test_no_name_ends_a_cell() -> None:
    assert markdown_cell("a\\|b") == "a\\\\\\|b"
    assert markdown_table(["a\\"], []).startswith("| a\\\\ |")


def test_names_that_look_like_numbers_or_gaps_stay_what_they_are(tmp_path: Path) -> None:
    study = Study(tmp_path, methods=("random", "ufc"), folds=1, seeds=1).finish(pattern)
    names = {"aorta": "NA", NASTY: "1"}
    patients = [entry["patient"] for entry in json.loads((tmp_path / "split.json").read_text())["images"].values()]
    images = {f"{name}.nii.gz": {"patient": f"00{i}"} for i, name in enumerate(patients)}
    (tmp_path / "split.json").write_text(json.dumps({**study.split, "images": images}))
    for path in tmp_path.rglob("structures.csv"):
        with open(path, newline="") as file:
            head, *rows = csv.reader(file)
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([head, *([image, names[name], *rest] for image, name, *rest in rows)])
    results = read_results(tmp_path, study.runs)
    results.save(tmp_path)
    for found in (results, Results.load(tmp_path / "study.csv")):
        assert found.structures == ["NA", "1"]
        assert set(found.measured["patient"]) <= {f"00{i}" for i in range(len(patients))}
        assert set(found.measured["labels"]) == {"1", "4"}


def test_a_recorded_study_fills_its_marks(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=2).finish(pattern)
    recorded = tmp_path / "docs" / "results"
    recorded.mkdir(parents=True)
    results = read_results(tmp_path, study.runs)
    results.save(recorded)
    (recorded / "study.csv").rename(recorded / "phantom.csv")
    (recorded / "study_figures.json").rename(recorded / "phantom.json")
    title = "Dice by methods and labels"
    page = f"<!-- table: study phantom: {title} -->\n| old |\n\nText.\n\n<!-- table: verdict phantom -->\n- old\n"
    table = next(t for t in study_tables(results) if t.title == title)
    said = "\n".join(f"- {markdown_cell(line)}" for line in verdict(results))
    expected = page.replace("| old |", markdown_table(table.head, table.rows)).replace("- old", said)
    assert filled(page, tmp_path / "docs") == expected
