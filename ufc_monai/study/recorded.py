"""The results of a study as two small files, from which its tables can be made anew."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd

from ufc_monai.files import atomic_path, read_json, write_json
from ufc_monai.study.results import COLUMNS, Results

__all__ = ["read_recorded", "write_recorded"]

BESIDE = [field.name for field in fields(Results) if field.name != "measured"]
"""What of the results stands in ``study_figures.json``."""


def write_recorded(folder: Path, results: Results) -> None:
    """Write ``study.csv`` and ``study_figures.json``.

    Args:
        folder: of the study.
        results: all that the tables are made of.
    """
    with atomic_path(folder / "study.csv") as temporary:
        results.measured.to_csv(temporary, index=False, float_format="%.4f")
    write_json(folder / "study_figures.json", {name: getattr(results, name) for name in BESIDE})


def read_recorded(path: Path) -> Results:
    """What :func:`write_recorded` has written.

    Args:
        path: the CSV file; beside it lies the other, ``study_figures.json`` or one of the CSV's name.
    """
    beside = path.with_name("study_figures.json") if path.name == "study.csv" else path.with_suffix(".json")
    content = read_json(beside, "study_figures.json")
    floats = {name: [""] for name, kind in COLUMNS.items() if kind is float}
    measured = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values=floats)
    return Results(measured, **{name: content[name] for name in BESIDE})
