"""Tables, verdict and report of made-up results."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.data.case import Case
from ufc_monai.data.split import make_split
from ufc_monai.study import report, statistics
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.plan import plan_runs
from ufc_monai.study.report import write_study_report
from ufc_monai.study.results import Results, read_results
from ufc_monai.study.runs import FINE_TUNING, Run, write_plan
from ufc_monai.study.tables import Table, comparisons, study_tables, verdict

NASTY = '<script src="http://x">|"'
ABOUT: dict[str, Any] = {"data_set": NASTY, "options": {"clusterings": []}}
METHODS = ("random", "simclr", "ufc")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 999)


class Study:
    """A study's folder with invented Dice."""

    def __init__(self, folder: Path, patients: int = 32, **options: Any) -> None:
        self.folder = folder
        cases = [Case(f"p{i:02}.nii.gz", f"m{i}.nii.gz", f"p{i:02}") for i in range(patients)]
        self.split = make_split(cases, seed=0)
        images = {case.image: {"patient": case.patient} for case in cases}
        (folder / "split.json").write_text(json.dumps({**self.split, "images": images}))
        chosen = {"preset": "cpu", "methods": METHODS, "budgets": ("1", "4"), "folds": 2, "seeds": 3, **options}
        self.runs = plan_runs(StudyOptions(Path("d"), folder, ROOT / "bundles", **chosen), self.split, cases)

    def finish(self, dice: Callable[[Run, str], float], stuck: Callable[[Run], list[str]] = lambda run: []) -> Study:
        """Complete all runs; ``dice`` is that of the aorta, the other structure is missed everywhere."""
        for run in self.runs:
            for record in run.records:
                path = self.folder / record
                path.parent.mkdir(parents=True, exist_ok=True)
                results = {"not_converged": stuck(run), "loss": 0.5 + (run.seed or 0), "effective_rank": 9.0}
                content = {"status": "complete", "seconds": 2.0, "results": results}
                path.write_text(json.dumps(content))
            if run.kind == "linear probe":
                means = {"pretrained": 0.9, "untrained": 0.8}
                (self.folder / run.folder / "probe.json").write_text(json.dumps({"mean": means}))
            if run.kind == "clusters":
                (self.folder / run.folder / "pseudo_labels.json").write_text(json.dumps({"n_clusters": 20}))
            if run.kind == FINE_TUNING:
                self._validate(run)
                self._test(run, dice)
        return self

    def _validate(self, run: Run) -> None:
        """100 steps; the best of three validations is the second."""
        lines = [{"epoch": e, "iteration": 10 * e, "loss": 1.0} for e in range(1, 11)]
        for epoch, value in ((3, 0.4), (6, 0.6 + 0.02 * (run.init_seed or 0)), (9, 0.5)):
            lines[epoch - 1]["val_mean_dice"] = value
        path = (self.folder / run.records[0]).with_name("metrics.jsonl")
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def _test(self, run: Run, dice: Callable[[Run, str], float]) -> None:
        path = (self.folder / run.records[1]).with_name("structures.csv")
        with open(path, "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["volume", "structure", "dice", "hd95_mm", "intersection", "predicted", "reference"])
            for patient in self.split["folds"][run.fold]["test"]:
                value = dice(run, patient)
                rows.writerow([f"{patient}.nii.gz", "aorta", value, 5.0, round(1000 * value), 1000, 1000])
                rows.writerow([f"{patient}.nii.gz", NASTY, 0.0, "", 0, 0, 500])


def pattern(run: Run, patient: str) -> float:
    """UFC is 10 points above random at 1 volume and level at 4; a seed moves all arms, a patient even more."""
    chance = np.random.default_rng([int(patient[1:]), run.init_seed or 0, METHODS.index(str(run.method))])
    gain = 0.1 if run.method == "ufc" and run.budget == "1" else 0.0
    level = {"1": 0.4, "4": 0.7}[str(run.budget)] + 0.02 * (run.init_seed or 0) - 0.05 * run.fold
    return float(level + gain + 0.005 * int(patient[1:]) + chance.normal(0, 0.01))


def cells(table: Table) -> dict[tuple[str, str], list[str]]:
    return {(row[0], row[1]): row[2:] for row in table.rows}


def test_means_and_spreads(tmp_path: Path) -> None:
    study = Study(tmp_path).finish(lambda run, _: 0.5 + 0.1 * run.fold + 0.02 * (run.init_seed or 0))
    table = study_tables(read_results(tmp_path, study.runs))[0]
    # the missed structure halves it: folds 26 and 31 on average, seeds 1 apart
    assert table.rows[0] == ["random", "28.5 (1.0; 3.5)", "28.5 (1.0; 3.5)", "0.800"]
    assert table.rows[2][3] == "0.900"


def test_what_the_validation_says_of_the_steps(tmp_path: Path) -> None:
    study = Study(tmp_path, folds=1).finish(lambda *_: 0.5)
    table = next(t for t in study_tables(read_results(tmp_path, study.runs)) if t.title == "Validation")
    assert table.rows[:2] == [["random", budget, "100", "3", "62.0 (2.0; -)", "60 %"] for budget in ("1", "4")]


def test_a_training_too_short_to_be_validated_is_told(tmp_path: Path) -> None:
    study = Study(tmp_path, folds=1).finish(lambda *_: 0.5)
    for path in tmp_path.rglob("metrics.jsonl"):
        path.write_text(json.dumps({"epoch": 1, "iteration": 12, "loss": 1.0}) + "\n")
    write_study_report(tmp_path, study.runs, ABOUT)
    assert "| random | 1 | 12 | 0 | - | - |" in (tmp_path / "study.md").read_text(encoding="utf-8")
    again = Results.load(tmp_path / "study.csv")
    assert study_tables(again) == study_tables(read_results(tmp_path, study.runs))


def test_what_pretraining_came_to(tmp_path: Path) -> None:
    study = Study(tmp_path, folds=1, seeds=2).finish(lambda *_: 0.5)
    table = next(t for t in study_tables(read_results(tmp_path, study.runs)) if t.title == "Pretraining")
    assert table.head == ["method", "runs", "steps", "loss", "effective rank"]
    assert table.rows == [[method, "2", "-", "1", "9"] for method in ("simclr", "ufc")]


def test_metrics_that_are_gone_are_named(tmp_path: Path) -> None:
    study = Study(tmp_path, folds=1).finish(lambda *_: 0.5)
    path = next(tmp_path.rglob("metrics.jsonl"))
    path.unlink()
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_results(tmp_path, study.runs)


def test_paired_differences_and_their_words(tmp_path: Path) -> None:
    study = Study(tmp_path, init_seeds=2).finish(pattern)
    results = read_results(tmp_path, study.runs)
    table = cells(study_tables(results)[1])
    difference, interval, p, patients, repeats, *_ = table["ufc - random", "1"]
    assert abs(float(difference) - 5) < 0.5  # of two structures one gains 10
    assert (patients, repeats) == ("16", "3")
    assert float(p) < 0.01
    low, high = map(float, interval.strip("[]").split(", "))
    assert low <= float(difference) <= high
    simclr, ufc, *said = verdict(results)
    assert re.match(
        r"UFC and random initialisation: UFC beats random initialisation at 1 labelled volume by 5\.\d \[", ufc
    )
    assert "no difference measured at 4 labelled volumes" in ufc
    assert simclr.startswith("SimCLR and random initialisation: no difference measured at 1")
    assert any(line.startswith("Noise of initialisation") for line in said)


def test_pairs_are_those_that_both_arms_have(tmp_path: Path) -> None:
    """Each arm lacks another run; resampling goes by a patient's place, so that the table has to be in order."""
    study = Study(tmp_path).finish(pattern)
    runs = [run for run in study.runs if run.kind == FINE_TUNING and run.budget == "1"]
    dice: dict[str, dict[tuple[Any, ...], float]] = {"random": {}, "ufc": {}}
    for run in runs:
        if (run.method, run.fold, run.init_seed) in {("random", 0, 0), ("ufc", 1, 1), ("ufc", 0, 2)}:
            (tmp_path / run.records[1]).unlink()
        elif run.method in dice:
            for patient in study.split["folds"][run.fold]["test"]:
                dice[run.method][(run.draw, run.init_seed), (run.fold, patient)] = 50 * pattern(run, patient)
    pairs = dice["ufc"].keys() & dice["random"].keys()
    repeats, patients = (sorted({pair[i] for pair in pairs}) for i in (0, 1))
    table = np.full((len(repeats), len(patients)), np.nan)
    for repeat, patient in pairs:
        difference = dice["ufc"][repeat, patient] - dice["random"][repeat, patient]
        table[repeats.index(repeat), patients.index(patient)] = difference
    found = read_results(tmp_path, study.runs).difference("ufc", "random", "1")
    expected = statistics.paired_difference(table)
    assert found is not None
    assert expected is not None
    assert found == pytest.approx(expected)


def test_noise_is_between_runs_with_the_same_labels(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=1, init_seeds=3, budgets=("1",)).finish(
        lambda run, _: 0.4 + 0.1 * (run.init_seed or 0)
    )
    noise = read_results(tmp_path, study.runs).noise("ufc", "1")
    assert noise.sd == pytest.approx(5.0)
    assert noise.runs == 3


def test_one_repeat_proves_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=1).finish(pattern)
    said = verdict(read_results(tmp_path, study.runs))
    assert "in a single repeat, which cannot be told from the noise of initialisation" in said[1]
    assert any("was not measured" in line for line in said)


def test_too_few_patients_are_not_measurable(tmp_path: Path) -> None:
    study = Study(tmp_path, patients=8).finish(pattern)
    assert "not measurable at 1 labelled volume with 4 test patients" in verdict(read_results(tmp_path, study.runs))[0]


def test_runs_that_have_not_converged_are_flagged_and_counted(tmp_path: Path) -> None:
    stuck = lambda run: ["aorta"] if (run.method, run.fold, run.budget) == ("random", 1, "1") else []  # noqa: E731
    study = Study(tmp_path).finish(pattern, stuck)
    results = read_results(tmp_path, study.runs)
    tables = study_tables(results)
    assert tables[0].rows[0][1].endswith("†3")
    assert cells(tables[1])["ufc - random", "1"][-1] == "0 / 3"
    assert len(tables[-1].rows) == 3
    said = verdict(results)
    assert "(3 of these runs did not converge" in said[0]
    assert any(line.startswith("NOT CONVERGED: 3 of 36 runs have not learned aorta") for line in said)


def test_the_sentence_counts_the_runs_of_the_table(tmp_path: Path) -> None:
    """Those that only tell the noise of initialisation, too."""
    study = Study(tmp_path, init_seeds=3).finish(pattern, lambda run: [] if run.counts else ["aorta"])
    results = read_results(tmp_path, study.runs)
    rows, runs = study_tables(results)[-1].rows, len(results.runs)
    assert rows
    assert any(line.startswith(f"NOT CONVERGED: {len(rows)} of {runs} runs") for line in verdict(results))


def test_hd95_is_never_0_where_it_is_not_defined(tmp_path: Path) -> None:
    study = Study(tmp_path).finish(lambda run, _: 0.5)
    table = next(t for t in study_tables(read_results(tmp_path, study.runs)) if "HD95" in t.title)
    dice, dice_defined, hd95, hd95_defined, pooled = cells(table)["ufc", "4"]
    assert (dice, dice_defined) == ("25.0 (0.0; 0.0)", str(2 * 3 * 8 * 2))
    assert (hd95, hd95_defined) == ("5.0 (0.0; 0.0)", f"{2 * 3 * 8} of {2 * 3 * 8 * 2}")
    assert pooled == "25.0 (0.0; 0.0)"


def test_missing_runs_are_said(tmp_path: Path) -> None:
    study = Study(tmp_path).finish(pattern)
    gone = next(run for run in study.runs if run.method == "ufc" and run.kind == FINE_TUNING)
    (tmp_path / gone.records[1]).unlink()
    results = read_results(tmp_path, study.runs)
    assert study_tables(results)[0].rows[2][1].endswith("‡5 of 6")
    assert verdict(results)[-1] == "Incomplete: 1 of 36 runs are missing."


def test_pictures_mark_what_has_other_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[str]] = {}
    monkeypatch.setattr(report, "save_label_curves", lambda _, curves: drawn.update(curves=list(curves)))
    monkeypatch.setattr(
        report, "save_structure_bars", lambda _, __, panels: drawn.update(bars=list(panels["labels: 4"]))
    )
    study = Study(tmp_path, folds=1).finish(pattern)
    report._draw(tmp_path, read_results(tmp_path, study.runs))
    assert drawn == {"curves": list(METHODS), "bars": list(METHODS)}
    gone = next(run for run in study.runs if run.method == "simclr" and run.kind == FINE_TUNING)
    (tmp_path / gone.records[1]).unlink()
    report._draw(tmp_path, read_results(tmp_path, study.runs))
    assert drawn["curves"] == drawn["bars"] == ["random", "simclr ‡", "ufc"]


def test_clusterings_by_k(tmp_path: Path) -> None:
    asked = ("agglomerative:20", "agglomerative:3")
    study = Study(tmp_path, methods=("ufc",), clusterings=asked, budgets=("1",)).finish(
        lambda run, _: 0.6 if run.method == "ufc_agglomerative_3" else 0.8
    )
    table = next(t for t in study_tables(read_results(tmp_path, study.runs, asked)) if "Clusterings" in t.title)
    assert table.head == ["clusters", "3", "20"]
    assert [cell.split()[0] for cell in table.rows[0]] == ["agglomerative", "30.0", "40.0"]


def test_comparisons_are_counted_that_were_made(tmp_path: Path) -> None:
    study = Study(tmp_path, folds=1)
    all_runs, study.runs = study.runs, [run for run in study.runs if run.method != "ufc"]
    study.finish(lambda *_: 0.5)
    assert "2 comparisons were made" in " ".join(verdict(read_results(tmp_path, all_runs)))


def test_ufc_is_compared_with_its_controls(tmp_path: Path) -> None:
    methods = ("random", "ufc", "ufc_not_centred", "ufc_random_clusters")
    study = Study(tmp_path, methods=methods, budgets=("1",)).finish(
        lambda run, patient: 0.002 * int(patient[1:]) + (0.6 if run.method == "ufc" else 0.5)
    )
    results = read_results(tmp_path, study.runs)
    assert comparisons(results)[-2:] == [("ufc", "ufc_not_centred"), ("ufc", "ufc_random_clusters")]
    assert "UFC and ufc_random_clusters: UFC beats ufc_random_clusters at 1 labelled volume by 5.0" in " ".join(
        verdict(results)
    )


def test_a_report_on_demand_writes_what_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = Study(tmp_path).finish(pattern)
    gone = next(run for run in study.runs if run.method == "ufc" and run.kind == FINE_TUNING)
    (tmp_path / gone.records[1]).unlink()
    write_plan(tmp_path, study.runs, ABOUT)
    words = ["report", "--folder", str(tmp_path)]
    assert main(words) == 0
    assert "Incomplete: 1 of 36 runs are missing." in (tmp_path / "study.md").read_text(encoding="utf-8")
    assert not (tmp_path / "report.html").exists()
    assert main([*words, "--output", "page.html"]) == 1
    assert "a study's report is several files" in capsys.readouterr().err


def test_report_escapes_and_fetches_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=2).finish(pattern)
    write_study_report(tmp_path, study.runs, ABOUT)
    page = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.findall(r"""<[^>]*(?:src|href)="(?!data:)|url\(|@import""", page)
    assert page.count("data:image/png") == 2
    notes = (tmp_path / "study.md").read_text(encoding="utf-8")
    assert "<script" not in notes
    lengths = [line.count("|") - line.count("\\|") for line in notes.splitlines() if line.startswith("| random | 1 |")]
    assert lengths == [8, 5, 7]  # other measures, structures, validation: the | of a name makes no column
    with open(tmp_path / "study.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 2 * 2 * 8 * 2
    keys = ("method", "labels", "fold", "fine_tuning_seed", "volume", "structure")
    assert len({tuple(row[key] for key in keys) for row in rows}) == len(rows)
    assert {row["hd95_mm"] for row in rows if row["structure"] == NASTY} == {""}


def test_the_same_results_make_the_same_files(tmp_path: Path) -> None:
    study = Study(tmp_path, seeds=2).finish(pattern)
    names = ("study.csv", "study.md", "study.html")
    write_study_report(tmp_path, study.runs, ABOUT)
    first = [(tmp_path / name).read_bytes() for name in names]
    write_study_report(tmp_path, study.runs, ABOUT)
    assert [(tmp_path / name).read_bytes() for name in names] == first
