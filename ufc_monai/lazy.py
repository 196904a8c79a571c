"""Names of a package that are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["import_when_used"]


def import_when_used(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562) some of whose names need more than MONAI, PyTorch and NumPy.

    A server that only segments has no libraries for pictures or clusters, and imports the same packages.

    Args:
        package: its ``__name__``.
        homes: the module of the package in which each name is defined.

    Example:
        >>> import_when_used("os", {"join": "path"})("join")("a", "b")
        'a/b'
    """

    def attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return attribute
