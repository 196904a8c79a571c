"""What a study leaves: ``study.csv``, ``study_figures.json``, ``study.md``, ``study.html`` and two pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.files import atomic_path, found_json
from ufc_monai.report.markdown import markdown_cell, markdown_table
from ufc_monai.report.page import card, details, page, paragraph, picture, section, table
from ufc_monai.report.study import save_label_curves, save_structure_bars
from ufc_monai.study.recorded import write_recorded
from ufc_monai.study.results import Results, read_results
from ufc_monai.study.runs import Run
from ufc_monai.study.state import failure_of, read_plan, states_of
from ufc_monai.study.tables import Table, study_tables
from ufc_monai.study.verdict import verdict

__all__ = ["report_study", "write_study_report"]

logger = logging.getLogger(__name__)

CURVES, BARS = "dice_by_labels.png", "dice_by_structure.png"
CAPTIONS = {
    CURVES: (
        "Dice by labelled volumes",
        "Mean over test patients and repeats with 95 % intervals. They hold the differences between patients, which "
        "fall out of a paired difference: two arms may differ though their intervals overlap. ‡: not all of the arm's "
        "runs are there, so that it cannot be compared by eye.",
    ),
    BARS: ("Dice by structure", "Mean over the volumes that hold the structure; one panel a number of labels."),
}


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
    results = read_results(folder, runs)
    if not results.tested:
        logger.warning("no run has been tested, so there are no tables")
        return
    said, tables = verdict(results), study_tables(results, about["options"]["clusterings"])
    write_recorded(folder, results, about["options"]["clusterings"])
    _draw(folder, results)
    states = states_of(folder, runs)
    asked = [f"{key}: {value}" for key, value in about["options"].items() if value not in (None, [], {})]
    asked += [f"trimmed: {', '.join(about['trimmed'])}"] if about["trimmed"] else []
    failed = [[run.name, _error(folder, run)] for run in runs if states[run.name] == "failed"]
    tables.append(Table("Runs that failed", ["run", "its last words"], failed, "The same command tries them again."))
    tables = [t for t in tables if t.rows]
    _write(folder / "study.md", _markdown(f"Study of {about['data_set']}", asked, said, tables))
    _write(folder / "study.html", _html(folder, f"Study of {about['data_set']}", asked, said, tables, runs, states))
    logger.info("\n%s\n\n%s", markdown_table(tables[0].head, tables[0].rows), "\n".join(said))
    logger.info("tables: %s, study.html, study.csv", folder / "study.md")


def _draw(folder: Path, results: Results) -> None:
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    panels: dict[str, dict[str, list[float]]] = {}
    for method in results.methods:
        arm = method + _mark(results, method)
        for budget in results.budgets:
            tested, found = results.counted(method, budget), results.interval(method, budget)
            if found is None:
                continue
            curves.setdefault(arm, []).append((float(tested[0].run.volumes or 0), *found))
            dice = [_mean_of(results, method, budget, name) for name in results.structures]
            panels.setdefault(f"labels: {budget}", {})[arm] = dice
    save_label_curves(folder / CURVES, curves)
    save_structure_bars(folder / BARS, results.structures, panels)


def _mark(results: Results, method: str) -> str:
    """The mark of an arm whose runs are not all there: its means are of other repeats than those of the rest."""
    planned = sum(n for (name, _), n in results.planned.items() if name == method)
    return " ‡" if sum(len(results.counted(method, b)) for b in results.budgets) < planned else ""


def _mean_of(results: Results, method: str, budget: str, structure: str) -> float:
    return results.spread(method, budget, lambda t: t.dice_of(structure)).mean


def _markdown(title: str, asked: Sequence[str], said: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [f"# {markdown_cell(title)}", *(f"- {markdown_cell(line)}" for line in said)]
    for t in tables:
        parts += [f"\n## {markdown_cell(t.title)}\n", markdown_table(t.head, t.rows), f"\n{markdown_cell(t.caption)}"]
    return "\n".join([*parts, "\n## What was asked for\n", *(f"- {markdown_cell(line)}" for line in asked)]) + "\n"


def _html(
    folder: Path,
    title: str,
    asked: Sequence[str],
    said: Sequence[str],
    tables: Sequence[Table],
    runs: Sequence[Run],
    states: Mapping[str, str],
) -> str:
    cards = [card(line, "warning" if line.startswith(("NOT CONVERGED", "Incomplete")) else "") for line in said]
    pictures = [picture(folder / name, *CAPTIONS[name]) for name in (CURVES, BARS)]
    parts = [section("In words", cards)]
    parts += [section(t.title, [table(t.head, t.rows), paragraph(t.caption, "soft")]) for t in tables]
    parts.insert(2, section("Pictures", pictures))
    listed = table(["run", "what", "state"], [[run.name, run.kind, states[run.name]] for run in runs])
    plan = [paragraph(line) for line in asked]
    return page(title, [*parts, section("What was asked for", [*plan, details(f"all {len(runs)} runs", listed)])])


def _error(folder: Path, run: Run) -> str:
    return str(found_json(failure_of(folder, run), "--folder").get("error", "is tried again"))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
