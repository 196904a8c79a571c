"""Who may import whom; and that the package is light to import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ufc_monai.base.lazy import PUBLIC

PACKAGE = Path(__file__).parents[1] / "ufc_monai"
LEAVES = ("clustering", "losses", "networks", "phantom", "report", "transforms")
ALLOWED = {
    "base": set(),
    **{leaf: {"base"} for leaf in LEAVES},
    "data": {"base", "transforms"},
    "artifacts": {"base", "clustering", "data", "networks", "report"},
    "training": {"artifacts", "base", "clustering", "data", "losses", "report", "transforms"},
    "evaluation": {"artifacts", "base", "clustering", "data", "networks", "report", "transforms"},
    "quality": {"artifacts", "base", "transforms"},
    "self_training": {"artifacts", "base", "data", "report", "transforms"},
    "zoo": {"artifacts", "base", "networks", "report"},
    "planning": {"base", "clustering", "data", "quality", "report", "training", "transforms"},
    "commands": {"artifacts", "base", "clustering", "data", "evaluation", "phantom", "planning", "quality", "report"}
    | {"training", "transforms", "zoo"},
    "study": {"base", "clustering", "commands", "data", "planning", "report", "training"},
    "__main__": {"base", "commands"},
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


@pytest.mark.parametrize("room", sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")))
def test_a_name_means_one_thing(room: str) -> None:
    """A public name stands in one module, and is no module's name: else it would depend on what was imported before."""
    modules = {path.stem: set(PUBLIC.findall(path.read_text("utf-8"))) for path in (PACKAGE / room).glob("*.py")}
    names = [name for found in modules.values() for name in found]
    assert sorted(set(names)) == sorted(names)
    if "names_of" in (PACKAGE / room / "__init__.py").read_text("utf-8"):
        assert not set(names) & set(modules)
