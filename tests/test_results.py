"""The figures of docs/results.md are those of the recorded files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT
from results_tables import MARK, filled

PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
NOT_KEPT = "<!-- table: not recorded -->"
"""Stands before a table whose files are gone; the page has to say so in words, too."""


def test_the_tables_are_those_of_the_recorded_files() -> None:
    assert filled(PAGE) == PAGE


def test_every_table_is_recorded_or_says_that_it_is_not() -> None:
    lines = PAGE.splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(r"\|[ :-]+\|", line)]
    assert len(heads) >= 4
    for i in heads:
        assert lines[i - 2].startswith("<!-- table: "), f"line {i}: no mark before this table"
    if NOT_KEPT in PAGE:
        assert "not kept" in PAGE


def test_a_figure_that_was_changed_is_noticed() -> None:
    assert filled(PAGE.replace("| 51.8 |", "| 52.8 |")) == PAGE


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").iterdir()), ids=lambda p: p.name)
def test_what_is_recorded_is_small_and_names_no_machine(path: Path) -> None:
    assert path.suffix in (".csv", ".json")
    assert path.stat().st_size < 500_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", path.read_text(encoding="utf-8"))
    assert any(path.stem in found["name"] for found in MARK.finditer(PAGE)), "no table uses it"
