"""Label-efficiency studies: methods by budgets, folds and seeds, with statistics. It starts stages as a user does."""

from __future__ import annotations

from ufc_monai.study.command import run_study
from ufc_monai.study.options import StudyOptions

__all__ = ["StudyOptions", "run_study"]
