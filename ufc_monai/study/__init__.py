"""Label-efficiency studies: methods by budgets, folds and seeds, with statistics. It starts stages as a user does."""

from __future__ import annotations

from ufc_monai.errors import InputError

try:
    import pandas  # noqa: F401
except ModuleNotFoundError as e:
    raise InputError(f'study needs {e.name}, which is not installed. Run: pip install "ufc-monai[study]"') from e

from ufc_monai.study.command import run_study
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.report import report_study

__all__ = ["StudyOptions", "report_study", "run_study"]
