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
from conftest import ROOT
from full_disk import content

from ufc_monai.__main__ import main

CPU: tuple[object, ...] = ("--threads", 1, "--device", "cpu")
FEW: tuple[object, ...] = ("--steps", 1, *CPU)
COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "agreement": lambda at, data: [
        "agreement",
        "--weights",
        at / "run",
        "--dataset_dir",
        data,
        "--labels",
        "level",
        *FEW,
    ],
    "check": lambda at, data: ["check", data, "--output", at / "look.png", "--write", at / "split.json", *CPU],
    "cut": lambda at, _: ["cut", "--folder", at / "run", "--k", 3],
    "label": lambda at, _: ["label", "--folder", at / "run", at / "app"],
    "next": lambda at, data: ["next", "--folder", at / "run", "--dataset_dir", data.parent / "some", "--budget", 1],
    "package": lambda at, _: ["package", "--bundles", ROOT / "bundles", "--output", at / "zips" / "first"],
    "phantom": lambda at, _: ["phantom", at / "made" / "here", "--patients", 1],
    "report": lambda at, _: ["report", "--folder", at / "run"],
    "sample": lambda at, _: ["sample", "--weights", at / "run", "--n", 2, at / "samples"],
    "segment": lambda at, data: ["segment", "--weights", at / "run", some_scan(data), at / "masks" / "a.nii.gz"],
    "skin": lambda at, _: ["phantom", at / "made", "--kind", "skin", "--patients", 1],
}
MAY_LACK = {"split.checked.json"}
"""What saves time and is left out where it cannot be written."""
FAULTS = {errno.ENOSPC: "the disk is full", errno.EROFS: "(Read-only file system)"}
WRITING = re.compile("[wax+]")
MADE_UP = re.compile(r"\.[^./]{8}(?=\.|/|$)|-[^-/.]{8}(?=/|$)|[0-9a-f]{12,}")
"""What differs from one time to the next in the names of temporary files and folders."""


@contextmanager
def writes(below: Path, fault: int, fail: Callable[[str], bool]) -> Iterator[None]:
    """Ask before each file or folder that Python writes below a folder, by what is done and to what name."""

    def asked(kind: str, path: Any) -> None:
        there = kind == "mkdir" and isinstance(path, str | os.PathLike) and os.path.isdir(path)  # and may be
        if isinstance(path, str | os.PathLike) and not there and Path(path).is_relative_to(below):
            name = MADE_UP.sub("", Path(path).relative_to(below).as_posix())
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
        patch.setattr(os, "fsync", guarded("fsync", os.fsync, lambda file: os.readlink(f"/proc/self/fd/{file}")))
        yield


def some_scan(data: Path) -> Path:
    return next(data.glob("*_image.nii.gz"))


def command(name: str, place: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """What a command ends with and says last."""
    capsys.readouterr()
    code = main([str(word) for word in COMMANDS[name](place, data)])
    said = capsys.readouterr().err.strip()
    return code, said.removeprefix("error: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_seam(
    name: str,
    chain: Path,
    phantom: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk is full and, each second time, read-only; then the same command does all that it should have done."""

    def prepared(place: Path) -> Path:
        shutil.copytree(chain, place / "run", ignore=shutil.ignore_patterns("cache"))
        (place / "app").mkdir()
        (place / "app" / "main.py").touch()
        return place

    def note(seam: str) -> bool:
        seams.append(seam)
        return False

    monkeypatch.setattr("ufc_monai.commands.package._build_wheel", lambda _: None)
    monkeypatch.setattr("ufc_monai.evaluation.agreement.RESAMPLES", 20)
    shutil.copytree(
        phantom, phantom.parent / "some", ignore=shutil.ignore_patterns("*[1-5]_label*"), dirs_exist_ok=True
    )
    sound, seams = prepared(tmp_path / "sound"), list[str]()
    with writes(sound, 0, note):
        assert command(name, sound, phantom, capsys) == (0, "")
    assert len(set(seams)) > 1
    for n, seam in enumerate(dict.fromkeys(seams)):
        place, fault = prepared(tmp_path / str(n)), list(FAULTS)[n % 2]
        before = content(place)
        with writes(place, fault, seam.__eq__):
            code, said = command(name, place, phantom, capsys)
        after = content(place)
        if code:  # else it got there by another way: where a file cannot be moved it is copied
            assert FAULTS[fault] in said, (seam, said)
            assert str(place) in said, (seam, said)
            assert len(said.splitlines()) <= 2, (seam, said)
            remains = [file for file in after if re.search(r"(^|/)\.(?!building)", file)]
            assert not remains, (seam, remains)
            assert not [file for file in after.keys() - before if not after[file]], seam
            assert command(name, place, phantom, capsys) == (0, ""), seam
        assert content(place).keys() | MAY_LACK == content(sound).keys() | MAY_LACK, seam
        shutil.rmtree(place)
