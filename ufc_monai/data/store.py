"""The slice store: what the volume transforms made of each volume, as arrays on disk; reading many in threads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from monai.transforms import apply_transform
from numpy.typing import NDArray
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from ufc_monai.base.errors import InputError, unwrapped
from ufc_monai.base.files import inside, readable_disk_errors
from ufc_monai.base.machine import at_once
from ufc_monai.data.items import VolumeItems
from ufc_monai.data.store_key import key_of_transforms, key_of_volume
from ufc_monai.transforms.reader import stored_shape

ABANDONED = 3600.0
"""Seconds after which an unfinished entry is taken for left over."""

T = TypeVar("T")
IMAGE_BYTES = 16
"""Most bytes a voxel while an image is read and preprocessed: peak of the resident memory above that of the idle
process, one volume of 512 x 512 x 120 at a time. Store: 4 (int16) and 16 (scaled int16); ``check``: 6 and 16."""
LABELLED_BYTES = 22
"""The same of an image with its label. Store: 5 and 16; ``check``: 9 and 16. Stage 3's test of 14 structures takes 21
beside ``PROCESS_BYTES``."""


class StoreEntry:
    """The slices of one volume.

    Attributes:
        folder: where the arrays lie.
        items: what each slice knows of itself beside arrays (``id``, ``patient``, ``position``), made when asked for.
        keys: names of the arrays.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with open(os.path.join(folder, "entry.json"), encoding="utf-8") as file:  # quicker than pathlib
                meta = unsealed(file.read())
            self.items = VolumeItems(**meta["items"])
            self.keys: list[str] = meta["keys"]
            self._sums = {key: np.array(sums, dtype=np.uint32) for key, sums in meta["crc32"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as e:
            raise self._unreadable(folder / "entry.json", e) from e
        self._layouts: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}

    def __len__(self) -> int:
        return len(self.items)

    def array(self, key: str) -> NDArray[Any]:
        """The slices under ``key``, (n, C, H, W)."""
        return self._read(key, 0, len(self))

    def sample(self, index: int) -> dict[str, Any]:
        """One slice as ``AxialSlicesd`` cut it. No file stays open, whatever the number of volumes."""
        return {key: torch.from_numpy(self._read(key, index, 1)[0]) for key in self.keys} | self.items[index]

    def _read(self, key: str, first: int, n: int) -> NDArray[Any]:
        path = f"{self.folder}/{key}.npy"
        try:
            if key not in self._layouts:
                array = np.load(inside(self.folder, f"{key}.npy", "cache_dir"), mmap_mode="r")
                self._layouts[key] = array.dtype, array.shape[1:], array.offset
            dtype, shape, start = self._layouts[key]
            size = math.prod(shape)
            found = np.fromfile(path, dtype, n * size, offset=start + first * size * dtype.itemsize)
            found = found.reshape(n, *shape)
            for index, piece in enumerate(found, first):
                if zlib.crc32(piece.data) != self._sums[key][index]:
                    raise ValueError(f"the checksum of slice {index} differs")
            return found
        except InputError:
            raise
        except (OSError, ValueError, EOFError) as e:  # too few bytes take no shape
            raise self._unreadable(path, e) from e

    def _unreadable(self, path: str | Path, error: Exception) -> InputError:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            limit = " Raise the limit (ulimit -n)." if error.errno == errno.EMFILE else ""
            return InputError(f"cache_dir: {path} cannot be opened ({error.strerror}); it need not be damaged.{limit}")
        return InputError(
            f"cache_dir: {path} is gone or damaged ({error}). Delete the folder {self.folder}, then give the same "
            "command again."
        )


def write_entry(folder: Path, items: Sequence[Mapping[str, Any]], arrays: Mapping[str, NDArray[Any]]) -> StoreEntry:
    """Write an entry's files. Each slice has a checksum, and so has ``entry.json``: they are compared on reading.

    Args:
        folder: where they go.
        items: what each slice knows of itself.
        arrays: (n, C, H, W) each, by their keys.
    """
    for key, array in arrays.items():
        np.save(inside(folder, f"{key}.npy", "cache_dir"), array, allow_pickle=False)
    sums = {key: [zlib.crc32(np.ascontiguousarray(piece).data) for piece in array] for key, array in arrays.items()}
    meta = {"keys": list(arrays), "items": vars(VolumeItems.of(items)), "crc32": sums}
    (folder / "entry.json").write_text(sealed(meta), encoding="utf-8")
    return StoreEntry(folder)


def sealed(content: Mapping[str, Any]) -> str:
    """JSON whose first key holds a hash of the text behind it: of ten thousand files it is compared in no time.

    Example:
        >>> unsealed(sealed({"n": 3}))
        {'n': 3}
    """
    text = json.dumps(content)[1:]
    return f'{{"seal": "{_hash(text)}", {text}'


def unsealed(text: str) -> dict[str, Any]:
    """What was sealed.

    Raises:
        ValueError: if a character is another.
    """
    head, _, rest = text.partition(", ")
    if head != f'{{"seal": "{_hash(rest)}"':
        raise ValueError("its seal differs")
    content: dict[str, Any] = json.loads("{" + rest)
    return content


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class SliceStore:
    """Build and open the entries of a data set.

    Args:
        cache_dir: folder of the store.
        transforms: the volume transforms; the last one returns the list of slice items.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = list(transforms)
        self.folder = Path(cache_dir) / key_of_transforms(self.transforms)

    def open(self, data: Sequence[Mapping[str, Any]]) -> list[StoreEntry]:
        """The entries of ``data``, in its order; those that are missing are built, in parallel.

        Args:
            data: items with the paths of the volumes' files.

        Raises:
            InputError: if a volume cannot be read or transformed, naming its file.
        """
        folders = [self.folder / key_of_volume(item) for item in data]
        there = [os.path.isfile(os.path.join(folder, "entry.json")) for folder in folders]
        missing = {f: item for f, item, found in zip(folders, data, there, strict=True) if not found}
        if missing:
            with readable_disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            jobs = [(item, folder) for folder, item in missing.items()]
            sizes = [stored_bytes(item["image"], "label" in item) for item in missing.values()]
            read_together(lambda i: self._build(*jobs[i]), sizes, "slice store")
        return [StoreEntry(folder) for folder in folders]

    def _sweep(self) -> None:
        """Remove what builds that were killed have left; one that still runs is younger."""
        for folder in self.folder.glob(".building-*"):
            with contextlib.suppress(FileNotFoundError):  # just built by another process
                if time.time() - folder.stat().st_mtime > ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)

    def _build(self, item: Mapping[str, Any], folder: Path) -> None:
        slices = self._slices(item)
        with (
            readable_disk_errors(folder),
            tempfile.TemporaryDirectory(dir=self.folder, prefix=".building-", ignore_cleanup_errors=True) as name,
        ):
            temporary = Path(name)
            keys = [key for key, value in slices[0].items() if isinstance(value, Tensor)]
            items = [{key: value for key, value in s.items() if key not in keys} for s in slices]
            write_entry(temporary, items, {key: torch.stack([s[key] for s in slices]).numpy() for key in keys})
            try:
                temporary.rename(folder)
            except OSError:
                if not (folder / "entry.json").is_file():  # else another process was faster
                    raise

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


def reading_bytes(shape: Sequence[int], labelled: bool) -> int:
    """Memory that a volume takes while it is read, with its label or without."""
    return math.prod(shape) * (LABELLED_BYTES if labelled else IMAGE_BYTES)


def stored_bytes(image: str | os.PathLike[str], labelled: bool) -> int:
    """:func:`reading_bytes` of a file, by its header; 0 if that is damaged, as reading it will show."""
    try:
        return reading_bytes(stored_shape(Path(image)), labelled)
    except Exception:
        return 0


def read_together(read: Callable[[int], T], sizes: Sequence[int], title: str, leave: bool = True) -> list[T]:
    """Call ``read`` with 0, 1, ... in threads: one a core, but no more than memory allows. The first error ends all.

    Args:
        read: reads one volume.
        sizes: bytes that each takes.
        title: of the progress bar.
        leave: whether the bar stays.
    """
    threads, bar = at_once(sizes), {"desc": title, "leave": leave, "unit": "volume", "disable": None}
    found: list[T] = thread_map(read, range(len(sizes)), max_workers=threads, **bar)
    return found
