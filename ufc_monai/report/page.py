"""Pieces of an HTML page that stands alone: no scripts, no network, everything from files escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

__all__ = ["card", "details", "page", "paragraph", "picture", "section", "table"]

STYLE = """
:root { color-scheme: light dark; --text: #1c2733; --soft: #5c6b7a; --back: #fff; --card: #f5f7f9; --line: #d9dfe5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6ebf0; --soft: #9fb0c0; --back: #12181f; --card: #1b232c; --line: #303b47; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  margin: 0 auto; max-width: 1100px; padding: 1rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p, dl { max-width: 75ch; margin: .5rem 0; } dd { margin: 0 0 .4rem 1rem; }
h1, p, summary, figcaption { overflow-wrap: anywhere; } .soft { color: var(--soft); font-size: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .5rem 1rem; }
.warning { border-left: 4px solid #d55e00; }
figure { margin: .8rem 0; } figcaption { color: var(--soft); font-size: .9rem; max-width: 75ch; }
img, svg { max-width: 100%; height: auto; display: block; border-radius: 4px; } svg { background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { white-space: normal; vertical-align: bottom; max-width: 9rem; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font-size: .8rem; background: var(--card); padding: .5rem; border-radius: 4px; }
@media (max-width: 640px) {
  figure { overflow-x: auto; } figcaption { position: sticky; left: 0; }
  img { max-width: 760px; } svg { max-width: none; width: 760px; }
}
@media print { body { max-width: none; } details { display: none; } figure { break-inside: avoid; } }
"""


def page(title: str, parts: Sequence[str]) -> str:
    """A whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(title: str, parts: Sequence[str]) -> str:
    """A heading with what belongs under it; nothing if that is empty."""
    inner = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{inner}\n</section>" if inner else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text; ``kind`` is a class of the style sheet."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def card(text: str, kind: str = "") -> str:
    """A paragraph in a box of its own; of the kind ``warning``, it is marked as one."""
    return f'<div class="{f"card {kind}".strip()}">{paragraph(text)}</div>'


def picture(path: Path, title: str, caption: str) -> str:
    """A PNG file, embedded; nothing if there is no such file."""
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    image = f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
    return figure(image, title, caption)


def figure(drawing: str, title: str, caption: str) -> str:
    """A drawing with its heading and what it shows; nothing without a drawing."""
    if not drawing:
        return ""
    return f"<h3>{escape(title)}</h3>\n<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in a box of its own that scrolls where the page is narrow."""
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def details(title: str, inner: str) -> str:
    """Something that opens at a click."""
    return f"<details><summary>{escape(title)}</summary>\n{inner}\n</details>" if inner else ""
