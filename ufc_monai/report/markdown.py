"""Tables in Markdown whose words come from files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["markdown_cell", "markdown_table"]


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
