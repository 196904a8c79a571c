"""Tables in Markdown, whose words come from files, and in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def markdown_cell(text: str) -> str:
    r"""A text in which nothing ends a cell or becomes a link, a line or HTML.

    Example:
        >>> markdown_cell("a|b <i>")
        'a\\|b &lt;i&gt;'
    """
    return " ".join(escape(text, quote=False).split()).replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of cells as lines of text, the first ``left`` columns to the left, the others to the right.

    Example:
        >>> print(aligned([["Dice", "mean"], ["left atrium", "0.9"]]))
        Dice         mean
        left atrium   0.9
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    justified = [[c.ljust(w) if i < left else c.rjust(w) for c in columns[i]] for i, w in enumerate(widths)]
    return "\n".join("  ".join(row).rstrip() for row in zip(*justified, strict=True))
