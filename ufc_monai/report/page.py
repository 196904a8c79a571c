"""Pages that stand alone, from the templates beside this file, and tables in Markdown and in plain text."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ufc_monai.base.files import atomic_path


def write_page(path: str | os.PathLike[str], template: str, **data: Any) -> None:
    """Write a page, whole or not at all.

    Args:
        path: the HTML or Markdown file.
        template: name of a file in ``templates``.
        data: what the template shows; text is escaped there.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(rendered(template, **data), encoding="utf-8")


def rendered(template: str, **data: Any) -> str:
    """The text of a page; arguments as of :func:`write_page`."""
    return _templates().get_template(template).render(data)


def data_uri(content: bytes, kind: str) -> str:
    """A picture's file as the source of an ``img``; nothing if it is empty.

    Example:
        >>> data_uri(b"<svg/>", "svg+xml")
        'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}" if content else ""


def png(path: Path) -> str:
    """The same of a PNG file; nothing if it does not exist."""
    return data_uri(path.read_bytes() if path.is_file() else b"", "png")


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("ufc_monai.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # both escape HTML, too
    templates.filters["cell"] = lambda text: Markup(markdown_cell(text))
    templates.filters["markdown"] = lambda table: Markup(markdown_table(table.head, table.rows))
    return templates


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


def without_outer_links(page: bytes) -> bytes:
    """A bundle's page in Markdown, with the mere text of links that lead out of the bundle.

    Example:
        >>> without_outer_links(b"[how to](../../../docs/how-to.md), [below](#keys)")
        b'how to, [below](#keys)'
    """
    return re.sub(rb"\[([^\]]*)\]\((?:\.\./){3}[^)]*\)", rb"\1", page)


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


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names with commas between them, or the first and how many more.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
        ('a, b, c', 'a, b and 1 more')
    """
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def counted(n: int, what: str) -> str:
    """A number of things in words.

    Example:
        >>> counted(1, "patient"), counted(2, "patient")
        ('1 patient', '2 patients')
    """
    return f"{n:,} {what}{'s' * (n != 1)}"
