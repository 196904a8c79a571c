"""A full disk, or a folder that may not be written to, at every place where a command writes: one line, no remains."""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from full_disk import content

from ufc_monai.__main__ import main

COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "cut": lambda chain, _: ["cut", "--folder", chain, "--k", 3],
    "label": lambda chain, _: ["label", "--folder", chain, chain.parent / "app"],
    "segment": lambda chain, scan: ["segment", "--weights", chain, scan, chain.parent / "masks" / "a.nii.gz"],
}
FAULTS = {errno.ENOSPC: "disk is full", errno.EROFS: "(Read-only file system)"}
WRITING = re.compile("[wax+]")


@contextmanager
def writes(below: Path, fault: int, fail: Callable[[str], bool]) -> Iterator[None]:
    """Ask before each file or folder that Python writes below a folder, by what is done and to what name."""

    def asked(kind: str, path: Any) -> None:
        there = kind == "mkdir" and isinstance(path, str | os.PathLike) and os.path.isdir(path)  # and may be
        if isinstance(path, str | os.PathLike) and not there and Path(path).is_relative_to(below):
            name = re.sub(r"\.[^.]{8}\.|-[^.]{8}(?=/|$)", ".", Path(path).relative_to(below).as_posix())
            if fail(f"{kind} {name}"):
                raise OSError(fault, os.strerror(fault), os.fspath(path))

    def guarded(kind: str, done: Callable[..., Any], named: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*given: Any, **how: Any) -> Any:
            asked(kind, named(*given, **how))
            return done(*given, **how)

        return guard

    def written(path: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
        return path if WRITING.search(mode) else None

    def beside(*_: Any, **how: Any) -> Path:
        return Path(how.get("dir") or "/", how.get("prefix") or "")

    with pytest.MonkeyPatch.context() as patch:
        for module in (io, builtins):
            patch.setattr(module, "open", guarded("open", module.open, written))
        for name in ("mkdir", "rename", "replace"):
            patch.setattr(os, name, guarded(name, getattr(os, name), lambda path, *_, **__: path))
        patch.setattr(tempfile, "mkstemp", guarded("mkstemp", tempfile.mkstemp, beside))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_seam(
    command: str, fault: int, chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = next(phantom.glob("*_image.nii.gz"))

    def attempt(place: Path, fail: Callable[[str], bool]) -> int:
        copy = shutil.copytree(chain, place / "run")
        (place / "app").mkdir()
        (place / "app" / "main.py").touch()
        with writes(place, fault, fail):
            return main([str(word) for word in COMMANDS[command](copy, scan)])

    def note(seam: str) -> bool:
        seams.append(seam)
        return False

    seams = list[str]()
    assert attempt(tmp_path / "sound", note) == 0
    assert len(set(seams)) > 2
    capsys.readouterr()
    for n, seam in enumerate(dict.fromkeys(seams)):
        place = tmp_path / str(n)
        code = attempt(place, seam.__eq__)
        said = capsys.readouterr().err.strip().splitlines()
        if code == 0:  # it got there by another way: where a file cannot be moved it is copied
            assert content(place).keys() == content(tmp_path / "sound").keys(), seam
            continue
        assert code == 1, seam
        assert said[-1].startswith("error: "), seam
        assert FAULTS[fault] in said[-1], (seam, said)
        assert not any("Traceback" in line for line in said), seam
        remains = [name for name in content(place) if re.search(r"(^|/)\.(?!building)", name)]
        assert not remains, (seam, remains)
