"""The public names of a package, found in its modules and imported when they are first used."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

PUBLIC = re.compile(r"^(?:class|def) ([A-Za-z]\w*)", re.MULTILINE)


def names_of(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562): classes and functions of its modules without a leading underscore.

    Configurations name them by the package alone, as in ``ufc_monai.losses.LossName``; nothing lists them, and a server
    that only segments needs no libraries for pictures or clusters.

    Args:
        package: its ``__name__``.

    Example:
        >>> names_of("ufc_monai.base")("InputError").__module__
        'ufc_monai.base.errors'
    """

    @cache
    def homes() -> dict[str, str]:
        modules = Path(str(import_module(package).__file__)).parent.glob("*.py")
        return {name: path.stem for path in modules for name in PUBLIC.findall(path.read_text(encoding="utf-8"))}

    def attribute(name: str) -> Any:
        if name.startswith("_") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes()[name]}"), name)

    return attribute
