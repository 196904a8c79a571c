"""Label-efficiency studies: methods by budgets, folds and seeds, with statistics. It starts stages as a user does."""

from __future__ import annotations

from ufc_monai.base.errors import InputError

try:
    import pandas  # noqa: F401
except ModuleNotFoundError as e:
    raise InputError(f'study needs {e.name}, which is not installed. Run: pip install "ufc-monai[study]"') from e
