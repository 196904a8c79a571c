"""Who may import whom; and that the package is light to import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ufc_monai"
BASE = {
    "bundles",
    "devices",
    "errors",
    "files",
    "formats",
    "lazy",
    "lineage",
    "lock",
    "machine",
    "ranks",
}
ALLOWED = {
    "bundles": set(),
    "devices": set(),
    "errors": set(),
    "formats": set(),
    "machine": set(),
    "ranks": {"errors"},
    "lazy": set(),
    "files": {"errors", "formats"},
    "lineage": {"errors", "files"},
    "lock": {"errors", "files"},
    "losses": {"errors"},
    "networks": {"errors"},
    "phantom": {"files"},
    "transforms": BASE,
    "clustering": BASE,
    "report": BASE,
    "transfer": BASE,
    "served": BASE | {"transfer"},
    "data": BASE | {"transforms"},
    "labelling": BASE | {"clustering", "report"},
    "engines": BASE | {"clustering", "data", "labelling", "losses", "networks", "report", "transfer", "transforms"},
    "zoo": BASE | {"engines", "networks", "report", "transfer"},
    "commands": BASE
    | {"clustering", "data", "engines", "labelling", "losses", "phantom", "report", "served", "transfer", "transforms"}
    | {"zoo"},
    "study": BASE | {"clustering", "commands", "data", "engines", "report"},
    "__main__": {"bundles", "commands", "data", "errors", "files", "phantom", "report", "study"},
}
"""What each room may import of the package, beside itself."""


def rooms_imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("ufc_monai.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room != "__init__":
        assert rooms_imported(path) - {room} <= ALLOWED[room]


def test_files_are_short() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 320}
    assert not long
