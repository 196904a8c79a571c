"""Tables in Markdown, whose words come from files, and in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["aligned", "markdown_cell", "markdown_table"]


def markdown_cell(text: str) -> str:
    r"""A text in which nothing ends a cell or becomes a link, a line or HTML.

    Example:
        >>> markdown_cell("a|b <i>")
        'a\\|b &lt;i&gt;'
    """
    return " ".join(escape(text, quote=False).split()).replace("|", "\\|").replace("](", "]\\(")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines of text, the first column to the left, the others to the right.

    Example:
        >>> print(aligned([["Dice", "mean"], ["left atrium", "0.9"]]))
        Dice         mean
        left atrium   0.9
    """
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([row[0].ljust(first), *(cell.rjust(width) for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    )
