"""The slice store: what the volume transforms made of each volume, as memory-mapped arrays on disk.

One folder an entry, named by a hash of the transforms and one of the files' identity, so an entry never goes stale and
data sets share the volumes that they share. An entry is written under a temporary name and takes its own in one step:
several processes may build at once, and a killed build leaves nothing half.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Randomizable, apply_transform
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ufc_monai.errors import InputError, unwrapped
from ufc_monai.files import inside, readable_disk_errors
from ufc_monai.formats import parts_of

__all__ = ["SliceStore", "StoreEntry", "fingerprint"]

FORMAT = 1
ABANDONED = 3600.0
"""Seconds after which an unfinished entry is taken for left over."""


class StoreEntry:
    """The slices of one volume.

    Attributes:
        folder: where the arrays lie.
        items: what each slice knows of itself beside arrays (``id``, ``patient``, ``position``), one dict a slice.
        keys: names of the arrays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        self.items: list[dict[str, Any]] = meta["items"]
        self.keys: list[str] = meta["keys"]
        self._arrays: dict[str, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getstate__(self) -> dict[str, Any]:
        # a memory map would travel to a worker as a copy of its content
        return self.__dict__ | {"_arrays": {}}

    def array(self, key: str) -> NDArray[Any]:
        """The slices under ``key``, (n, C, H, W), memory-mapped."""
        if key not in self._arrays:
            path = inside(self.folder, f"{key}.npy", "cache_dir")
            try:
                self._arrays[key] = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as e:
                raise InputError(
                    f"cache_dir: {path} is gone or damaged ({e}). Delete the folder {self.folder}, then give the same "
                    "command again."
                ) from e
        return self._arrays[key]

    def sample(self, index: int) -> dict[str, Any]:
        """One slice as ``AxialSlicesd`` cut it."""
        arrays = {key: torch.from_numpy(np.array(self.array(key)[index])) for key in self.keys}
        return arrays | self.items[index]


class SliceStore:
    """Build and open the entries of a data set.

    Args:
        cache_dir: folder of the store.
        transforms: the volume transforms; the last one returns the list of slice items.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = list(transforms)
        described = [FORMAT, monai.__version__, [_describe(t) for t in self.transforms]]
        self.folder = Path(cache_dir) / fingerprint(described)

    def open(self, data: Sequence[Mapping[str, Any]], workers: int | None = None) -> list[StoreEntry]:
        """The entries of ``data``, in its order; those that are missing are built, in parallel.

        Args:
            data: items with the paths of the volumes' files.
            workers: threads; ``None`` for one a core.

        Raises:
            InputError: if a volume cannot be read or transformed, naming its file.
        """
        folders = [self.folder / fingerprint(_identity(item)) for item in data]
        missing = {f: item for f, item in zip(folders, data, strict=True) if not (f / "entry.json").is_file()}
        if missing:
            with readable_disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
                building = pool.map(self._build, missing.values(), missing)
                try:
                    list(tqdm(building, "slice store", total=len(missing), unit="volume", disable=None))
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return [StoreEntry(folder) for folder in folders]

    def _sweep(self) -> None:
        """Remove what builds that were killed have left; one that still runs is younger."""
        for folder in self.folder.glob(".building-*"):
            with contextlib.suppress(FileNotFoundError):  # just built by another process
                if time.time() - folder.stat().st_mtime > ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)

    def _build(self, item: Mapping[str, Any], folder: Path) -> None:
        slices = self._slices(item)
        with readable_disk_errors(folder), self._building() as temporary:
            keys = [key for key, value in slices[0].items() if isinstance(value, Tensor)]
            items = [{key: value for key, value in s.items() if key not in keys} for s in slices]
            for key in keys:
                array = torch.stack([s[key] for s in slices]).numpy()
                np.save(inside(temporary, f"{key}.npy", "cache_dir"), array, allow_pickle=False)
            (temporary / "entry.json").write_text(json.dumps({"keys": keys, "items": items}), encoding="utf-8")
            try:
                temporary.rename(folder)
            except OSError:
                if not (folder / "entry.json").is_file():  # else another process was faster
                    raise

    @contextlib.contextmanager
    def _building(self) -> Iterator[Path]:
        """A folder for an entry that is under way; what is left of it is removed."""
        temporary = Path(tempfile.mkdtemp(dir=self.folder, prefix=".building-"))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _slices(self, item: Mapping[str, Any]) -> list[dict[str, Any]]:
        value: Any = dict(item)
        for transform in self.transforms:
            try:
                with unwrapped():
                    value = apply_transform(transform, value)
            except InputError:
                raise
            except Exception as e:
                raise InputError(
                    f"{item.get('image')}: {type(transform).__name__} failed on it ({e.__cause__ or e})."
                ) from e
        return list(value)


def fingerprint(described: Any) -> str:
    """A short hash of something that JSON can write."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


def _identity(item: Mapping[str, Any]) -> dict[str, Any]:
    """What an item is made of: for an image its path, and the name, size and time of change of all its files."""
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
    return identity


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
    settings: Mapping[str, Any] = getattr(thing, "__dict__", {}) if not isinstance(thing, type) else {}
    return [f"{type(thing).__module__}.{name}", _describe(settings)]
