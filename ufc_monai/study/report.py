"""What a study leaves: ``study.csv``, ``study_figures.json``, ``study.md``, ``study.html`` and two pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.report.curves import save_label_curves, save_structure_bars
from ufc_monai.report.page import markdown_table, png, write_page
from ufc_monai.study.results import Results, read_results
from ufc_monai.study.runs import FAILED, Run, read_plan
from ufc_monai.study.tables import Table, study_tables, verdict

logger = logging.getLogger(__name__)

CURVES, BARS = "dice_by_labels.png", "dice_by_structure.png"


def report_study(folder: Path) -> None:
    """Write tables, pictures and report of what is complete of a study, while it runs or after it was stopped.

    Args:
        folder: of the study.

    Raises:
        InputError: if its ``study.json`` is damaged or of another version.
    """
    write_study_report(folder, *read_plan(folder))


def write_study_report(folder: Path, runs: Sequence[Run], about: Mapping[str, Any]) -> None:
    """Write tables, pictures and report of what is complete.

    Args:
        folder: of the study.
        runs: its plan.
        about: what else ``study.json`` holds.
    """
    options = about["options"]
    results = read_results(folder, runs, options["clusterings"])
    if results.measured.empty:
        logger.warning("no run has been tested, so there are no tables")
        return
    said, states = verdict(results), {run.name: run.state(folder) for run in runs}
    results.save(folder)
    _draw(folder, results)
    asked = [f"{key}: {value}" for key, value in options.items() if value not in (None, [], {})]
    failed = [[run.name, str(run.error)] for run in runs if states[run.name] == FAILED]
    tables = [*study_tables(results), Table("Runs that failed", ["run", "error"], failed)]
    data = {
        "data_set": about["data_set"],
        "said": said,
        "tables": [table for table in tables if table.rows],
        "asked": asked,
        "curves": png(folder / CURVES),
        "bars": png(folder / BARS),
        "runs": [(run.name, run.kind, states[run.name]) for run in runs],
    }
    for name in ("study.md", "study.html"):
        write_page(folder / name, name, **data)
    logger.info("\n%s\n\n%s", markdown_table(tables[0].head, tables[0].rows), "\n".join(said))
    logger.info("tables: %s, study.html, study.csv", folder / "study.md")


def _draw(folder: Path, results: Results) -> None:
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    panels: dict[str, dict[str, list[float]]] = {}
    for method in results.methods:
        planned = sum(n for name, _, n in results.planned if name == method)
        counted = {budget: results.counted(method, budget) for budget in results.budgets}
        # marks an arm with missing runs: its means are over other repeats than the rest
        arm = method + " ‡" * (sum(map(len, counted.values())) < planned)
        for budget, runs in counted.items():
            if found := results.interval(method, budget):
                curves.setdefault(arm, []).append((float(runs["labelled_volumes"].iloc[0]), *found))
                dice = [results.spread(method, budget, results.by_structure[name]).mean for name in results.structures]
                panels.setdefault(f"labels: {budget}", {})[arm] = dice
    save_label_curves(folder / CURVES, curves)
    save_structure_bars(folder / BARS, results.structures, panels)
