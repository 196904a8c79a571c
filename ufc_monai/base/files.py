"""Small files that stages hand to each other: written whole or not at all, and known by their sha256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from textwrap import shorten
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import FORBIDDEN, FULL, InputError, from_command_line
from ufc_monai.base.formats import parts_of

LITTLE = 2**16
"""Bytes below which a disk counts as full."""
NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
SHOWN = 50
"""Characters of a file's name that its temporary one begins with; both have to fit the file system."""
LONGEST = 255
"""Bytes of a file's name that common file systems take."""
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are devices on Windows, whatever their suffix."""
CODE = re.compile(r"^[$@%]|#|[@%]::")
"""What MONAI's configurations run, look up or change in a text; ``#`` is ``::`` to them."""
CODE_KEY = re.compile(r"[:#]|^\+|^(_target_)?$")
"""The same of a key."""


def inside(folder: str | os.PathLike[str], name: str | os.PathLike[str], key: str) -> Path:
    """The path below a folder that a name from a file stands for. Every such name goes through here.

    Args:
        folder: that it must not lead out of.
        name: a file's name, or a path relative to the folder, with slashes.
        key: where the name stands, for the error.

    Raises:
        InputError: if the name is empty, absolute, goes up by ``..``, or cannot be stored on every system: it
            contains NUL, is a device on Windows, or has a part of more than 255 bytes. Links on the disk are followed.

    Example:
        >>> inside("masks", "site_a/anna.nii.gz", "dataset.json").as_posix()
        'masks/site_a/anna.nii.gz'
    """
    text = os.fspath(name)
    parts = re.split(r"[/\\]", text)
    leaves = not text.strip() or PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ".." in parts
    if leaves or "\0" in text or any(len(os.fsencode(p)) > LONGEST or RESERVED.fullmatch(p) for p in parts):
        raise InputError(
            f"{key}: the name {_shortened(text)} leads out of {os.fspath(folder) or 'its folder'} or cannot be stored "
            "on every system. Rename it: no '..', no leading slash, no device of Windows, 255 bytes a part at most."
        )
    return Path(folder) / text


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:40]}...{text[-20:]} ({len(text)} characters)")


def inert(content: Any, key: str) -> Any:
    """Content that MONAI takes literally. What comes from files and lands in its configurations goes through here.

    ``metadata.json`` is one of them: MONAI runs text in it that begins with ``$``.

    Args:
        content: a text, number, list or mapping, as JSON has them.
        key: where it comes from, for the error.

    Returns:
        The content.

    Raises:
        InputError: at the first text that MONAI would run, look up or change.

    Example:
        >>> inert({"1": "left atrium", "2": "aorta (50 %)"}, "labels")
        {'1': 'left atrium', '2': 'aorta (50 %)'}
    """
    if isinstance(content, Mapping):
        for name, value in content.items():
            if CODE_KEY.search(name) or not is_writable(name):
                raise InputError(f"{key}: MONAI's configurations cannot hold the key {_shortened(name)}. Rename it.")
            inert(value, f"{key}, {_shortened(name)}")
    elif isinstance(content, list | tuple):
        for value in content:
            inert(value, key)
    elif isinstance(content, str) and not is_writable(content):
        raise InputError(f"{key}: the text {content!a} holds characters that are none. Rename it.")
    elif isinstance(content, str) and CODE.search(content):
        raise InputError(
            f"{key}: MONAI's configurations cannot hold the text {_shortened(content)}: '$', '@' or '%' at its "
            "beginning, and '#', '@::' or '%::' in it, mean something to them. Rename it."
        )
    return content


def is_writable(text: str) -> bool:
    """Whether text can be shown and written: no control character, no half one as bad JSON and Latin-1 names give."""
    return not any(
        character < " " or "\x7f" <= character < "\xa0" or "\ud800" <= character < "\ue000" for character in text
    )


def printable(text: str) -> str:
    """The text with escapes for the characters that :func:`is_writable` refuses."""
    return "".join(c if is_writable(c) else c.encode("unicode_escape").decode() for c in text)


def files_below(folder: Path, *patterns: str, key: str) -> list[Path]:
    """The files of a folder that are about to be handed on, sorted.

    Args:
        folder: theirs.
        patterns: of their paths in it.
        key: the option that named the folder, for the error.

    Raises:
        InputError: if one is a link that leads out of the folder, to something not meant to be shared.
    """
    found = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    for path in found:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{key}: {path} is a link that leads out of {folder}. Put the file itself in its place.")
    return found


def copy_below(source: Path, target: Path, *patterns: str, key: str) -> None:
    """Copy what :func:`files_below` finds to the same places below another folder."""
    for file in files_below(source, *patterns, key=key):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its name at the end, and is removed if the block fails.

    Example:
        >>> with atomic_path("numbers.txt") as temporary:  # doctest: +SKIP
        ...     temporary.write_text("1 2 3")
    """
    path = Path(path)
    with readable_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:SHOWN]}.", suffix="".join(path.suffixes[-2:])
        )
    os.close(handle)
    temporary = Path(name)
    try:
        with readable_disk_errors(path):
            yield temporary
            temporary.chmod(0o644)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())  # else a power cut leaves an empty file under the new name
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def readable_disk_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says of a full or forbidden disk while ``path`` is written into an error for the user.

    Raises:
        InputError: naming ``path``.
    """
    try:
        yield
    except (OSError, RuntimeError) as e:
        number = e.errno if isinstance(e, OSError) else None
        if number in (*FORBIDDEN, errno.ENOTDIR):
            what = "Move the file above it" if number == errno.ENOTDIR else "Make its folder writable"
            raise InputError(
                f"{path} cannot be written ({os.strerror(number)}). {what}, or name "
                "another (--output_dir, --ckpt_dir, --cache_dir, --split_path)."
            ) from e
        # ITK and NumPy give no number
        if number in FULL or (number is None and shutil.disk_usage(Path(path).parent).free < LITTLE):
            goes_on = " (a training goes on with --resume True)" if from_command_line() else ""
            raise InputError(
                f"the disk is full: {path} was not written; what was there before stands. Make space, then give the "
                f"same command again{goes_on}."
            ) from e
        raise


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Add a line to a file, the whole of it or nothing."""
    with readable_disk_errors(path), open(path, "ab", buffering=0) as file:
        before, content = file.tell(), f"{line}\n".encode()
        try:
            if file.write(content) < len(content):  # the disk took a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(before)
            raise


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=4, allow_nan=False) + "\n", encoding="utf-8")


def write_arrays(file: Path | IO[bytes], arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Write an ``.npz`` of numbers and text.

    Args:
        file: where it goes.
        arrays: by their names.
        compressed: as pictures of air should be.

    Raises:
        ValueError: at an array of Python objects, which could only be pickled; NumPy before 2.1 cannot refuse it.
    """
    plain = {name: np.asarray(value) for name, value in arrays.items()}
    if objects := [name for name, array in plain.items() if array.dtype.hasobject]:
        raise ValueError(f"{', '.join(objects)} hold Python objects, which are not written")
    save = np.savez_compressed if compressed else np.savez
    save(file, **plain)  # type: ignore[arg-type]  # a name might be that of an option


def read_json(path: str | os.PathLike[str], key: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        key: the configuration key that named it, for the error.

    Raises:
        InputError: if the file is missing or is not a JSON object.
    """
    if not (content := found_json(path, key)) and not Path(path).is_file():
        raise InputError(f"{key}: there is no file {path}.")
    return content


def found_json(path: str | os.PathLike[str], key: str) -> dict[str, Any]:
    """As :func:`read_json`, but empty if the file is not there; another process may take it away at any moment."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except NO_FILE:
        return {}
    except (ValueError, RecursionError) as e:
        raise InputError(f"{key}: {path} is not valid JSON ({e}).") from e
    if not isinstance(content, dict):
        raise InputError(f"{key}: {path} should hold a JSON object, not a {type(content).__name__}.")
    return content


def read_arrays(path: str | os.PathLike[str], *names: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file.

    Args:
        path: the file.
        names: arrays that it must hold; what else it holds is read, too.

    Raises:
        InputError: if it is missing, damaged or lacks one of them.
    """
    again = "Run ufc_feature_vae's inference.json again."
    if not Path(path).is_file():
        raise InputError(f"there is no {path}. {again}")
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as e:
        reason = shorten(ascii(str(e))[1:-1], 200, placeholder=" ...")  # zipfile quotes what it finds
        raise InputError(f"{path} is damaged ({type(e).__name__}: {reason}). {again}") from e
    if lacking := [name for name in names if name not in arrays]:
        raise InputError(f"{path} lacks {', '.join(lacking)}. {again}")
    return arrays


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256, in hexadecimal, of a file; or, whatever their names, of the files that an image is made of."""
    if (parts := parts_of(path)) == [Path(path)]:
        return _digest(Path(path))
    return hashlib.sha256("\n".join(sorted(_digest(part) for part in parts)).encode()).hexdigest()


def size_of(path: str | os.PathLike[str]) -> int:
    """The bytes of a file, or of all files that an image is made of."""
    return sum(part.stat().st_size for part in parts_of(path))


def stamp_of(path: str | os.PathLike[str]) -> str:
    """What another content, or another file in its place, changes of a file or of those that an image is made of.

    Sizes, times and places on the disk: as long as they stay, the content need not be read again.
    """
    states = (part.stat() for part in parts_of(path))
    facts = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in states]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _digest(file_path: Path) -> str:
    with open(file_path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
