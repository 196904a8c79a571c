"""Tables as CSV, the head first."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence

from ufc_monai.base.files import atomic_path


def write_table(path: str | os.PathLike[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table, the whole of it or nothing.

    Args:
        path: the file.
        rows: the head, then all others; the cell of ``None`` is empty.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a table, by the names in its head.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it is not text, or not a table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except csv.Error as e:
        raise ValueError(str(e)) from e
