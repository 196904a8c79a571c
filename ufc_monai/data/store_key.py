"""What an entry of the slice store is named by: everything that decides about its voxels."""

from __future__ import annotations

import ast
import contextlib
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

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.base.formats import parts_of

FORMAT = 3
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
    identity: dict[str, Any] = {key: str(value) for key, value in item.items()}
    for key, path in ((key, Path(identity[key])) for key in ("image", "label") if key in item):
        try:
            files = [(part.name, part.stat()) for part in parts_of(path)]
        except (FileNotFoundError, NotADirectoryError) as e:
            raise InputError(
                f"{key}: there is no file {path}. If dataset_dir was moved or is not mounted, bring it back and give "
                "the same command again."
            ) from e
        identity[key] = [os.path.abspath(path), [[name, s.st_size, s.st_mtime_ns] for name, s in files]]
    return fingerprint(identity)


def fingerprint(described: Any) -> str:
    """A short hash of something that JSON can write."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


@functools.cache
def _version(library: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(library)
    return None


def _describe(thing: Any) -> Any:
    """A transform as plain JSON: its class and, recursively, its settings."""
    if isinstance(thing, Randomizable):
        raise InputError(
            f"{type(thing).__name__} is random and stands before AxialSlicesd, where it would run once and be kept: "
            "move it behind AxialSlicesd."
        )
    for kinds, describe in DESCRIPTIONS:
        if isinstance(thing, kinds):
            return describe(thing)
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    module = getattr(thing, "__module__", None) or type(thing).__module__
    settings: Mapping[str, Any] = getattr(thing, "__dict__", {}) if not isinstance(thing, type) else {}
    return [f"{module}.{name}", _source(module), _describe(settings)]


def _describe_function(function: FunctionType) -> Any:
    captured = [cell.cell_contents for cell in function.__closure__ or ()]
    described = _describe([function.__code__, function.__defaults__, function.__kwdefaults__, captured])
    return [function.__module__, function.__qualname__, described]


DESCRIPTIONS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (bool | int | float | str | None, lambda plain: plain),
    (Mapping, lambda mapping: {str(key): _describe(value) for key, value in mapping.items()}),
    (list | tuple, lambda values: [_describe(value) for value in values]),
    (set | frozenset, lambda values: sorted(map(str, values))),
    (np.ndarray | Tensor, lambda array: array.tolist()),
    (np.generic | torch.dtype | np.dtype | torch.device, str),
    (FunctionType, _describe_function),
    (partial, lambda p: ["partial", _describe([p.func, p.args, p.keywords])]),
    (CodeType, lambda code: [code.co_code.hex(), list(code.co_names), _describe(code.co_consts)]),
)
"""How the settings of transforms are described: the first kind that fits."""


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
        return file and Path(file)
    path = Path(file).parent.joinpath(*rest)
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def _imported(file: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, and things that may be modules."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
