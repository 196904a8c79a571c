"""What an entry of the slice store is named by: everything that decides about its voxels."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from torch import Tensor

from ufc_monai.errors import InputError
from ufc_monai.files import sha256_of
from ufc_monai.formats import parts_of

__all__ = ["fingerprint", "key_of_transforms", "key_of_volume"]

FORMAT = 1
LIBRARIES = ("monai", "torch", "numpy", "scipy", "nibabel", "SimpleITK")
"""What reads, crops and resizes voxels; known by version, as all else is by its source."""


def key_of_transforms(transforms: Sequence[Callable[..., Any]]) -> str:
    """A hash of transforms: their settings, their source with all in their package that it imports, the libraries.

    Raises:
        InputError: if one of them is random.
    """
    return fingerprint([FORMAT, [_version(name) for name in LIBRARIES], [_describe(t) for t in transforms]])


def key_of_volume(item: Mapping[str, Any]) -> str:
    """A hash of an item: of an image or label its path, and the name, size and time of change of all its files.

    Raises:
        InputError: if a file is missing.
    """
    identity: dict[str, Any] = {}
    for key, value in item.items():
        path = Path(str(value))
        if key in ("image", "label"):
            if not path.exists():
                raise InputError(
                    f"{key}: there is no file {path}. If dataset_dir was moved or is not mounted, bring it back and "
                    "give the same command again."
                )
            files = [(part.name, part.stat()) for part in parts_of(path)]
            identity[key] = [os.path.abspath(path), [[name, s.st_size, s.st_mtime_ns] for name, s in files]]
        else:
            identity[key] = str(value)
    return fingerprint(identity)


def fingerprint(described: Any) -> str:
    """A short hash of something that JSON can write."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


@functools.cache
def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _describe(thing: Any) -> Any:
    """A transform as plain JSON: its class and, recursively, its settings."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): _describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [_describe(value) for value in thing]
    if isinstance(thing, set | frozenset):
        return sorted(str(value) for value in thing)
    if isinstance(thing, np.ndarray | Tensor):
        return thing.tolist()
    if isinstance(thing, torch.dtype | np.dtype):
        return str(thing)
    if isinstance(thing, Randomizable):
        raise InputError(
            f"{type(thing).__name__} is random and stands before AxialSlicesd, where it would run once and be kept: "
            "move it behind AxialSlicesd."
        )
    if isinstance(thing, FunctionType):
        captured = [thing.__defaults__, thing.__kwdefaults__, *(c.cell_contents for c in thing.__closure__ or ())]
        return [thing.__module__, thing.__qualname__, _describe(thing.__code__), _describe(captured)]
    if isinstance(thing, partial):
        return ["partial", _describe([thing.func, thing.args, thing.keywords])]
    if isinstance(thing, CodeType):
        return [thing.co_code.hex(), list(thing.co_names), _describe(thing.co_consts)]
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    module = getattr(thing, "__module__", None) or type(thing).__module__
    settings: Mapping[str, Any] = getattr(thing, "__dict__", {}) if not isinstance(thing, type) else {}
    return [f"{module}.{name}", _source(module), _describe(settings)]


@functools.cache
def _source(module: str) -> str | None:
    """A hash of a module's source, and of all in its package that it imports; ``None`` of a library and of Python."""
    package = module.partition(".")[0]
    if package in (*LIBRARIES, *sys.stdlib_module_names):
        return None
    waiting, seen = [_file_of(module)], dict[Path, str]()
    while waiting:
        file = waiting.pop()
        if file is not None and file not in seen:
            seen[file] = sha256_of(file)
            waiting += [_file_of(name) for name in _imported(file) if name.partition(".")[0] == package]
    return fingerprint(sorted(seen.values()))


def _file_of(module: str) -> Path | None:
    """The source of a module that need not be imported itself, only its package; ``None`` if there is none."""
    package, *rest = module.split(".")
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or not rest:
        return Path(file) if file else None
    path = Path(file).parent.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _imported(file: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, and things that may be modules."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
