"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import append_line, atomic_path, read_json, sha256_of, size_of, write_json


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"name": "left atrium"}}
    write_json(tmp_path / "new" / "folder" / "split.json", content)
    assert read_json(tmp_path / "new" / "folder" / "split.json", "split_path") == content


def test_the_same_content_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.json", "other.json"):
        write_json(tmp_path / name, {"b": 1, "a": [2]})
    assert sha256_of(tmp_path / "one.json") == sha256_of(tmp_path / "other.json")


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"voxels")
    assert sha256_of(tmp_path / "scan") == hashlib.sha256(b"voxels").hexdigest()


def test_a_folder_is_known_by_the_bytes_of_its_slices_whatever_their_names(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "same", "renamed", "changed")]
    for folder in folders:
        folder.mkdir()
        (folder / "2.dcm").write_bytes(bytes(128) + b"DICM second")
        (folder / "1.dcm").write_bytes(bytes(128) + b"DICM first")
    for name in (".DS_Store", "segmentation.nii.gz"):  # a label that lies there is no part of the scan
        (folders[1] / name).touch()
    (folders[2] / "2.dcm").rename(folders[2] / "3.dcm")
    (folders[3] / "2.dcm").write_bytes(bytes(128) + b"DICM SECOND")
    one, same, renamed, changed = map(sha256_of, folders)
    assert one == same == renamed != changed
    assert [size_of(folder) for folder in folders] == [277] * 4
    assert size_of(folders[0] / "1.dcm") == 138


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.mhd", "ElementDataFile = b.raw"), ("a.nhdr", "data file: b.raw"), ("a.mhd", "ElementDataFile = LISTED.raw")],
)
def test_detached_voxels_belong_to_their_header(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / name).write_text(f"first\n{line}\n")
    voxels = tmp_path / line.split()[-1]
    voxels.write_bytes(b"voxels")
    before = sha256_of(tmp_path / name)
    assert size_of(tmp_path / name) == len(line) + 7 + 6
    voxels.write_bytes(b"VOXELS")
    assert sha256_of(tmp_path / name) != before


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.mhd", "ElementDataFile = LIST\nb1.raw\nb2.raw"),
        ("a.mhd", "ElementDataFile = LIST 2D\nb1.raw\nb2.raw"),
        ("a.mhd", "ElementDataFile = b%d.raw 1 2 1"),
        ("a.mha", "ElementDataFile = b%03d.raw 1 2 1"),
        ("a.nhdr", "data file: LIST\nb1.raw\nb2.raw"),
        ("a.nrrd", "data file: b%d.raw 1 2 1"),
    ],
)
def test_so_do_those_of_a_list_or_a_pattern(tmp_path: Path, name: str, lines: str) -> None:
    (tmp_path / name).write_text(f"first\n{lines}\n")
    for i in (1, 2):
        (tmp_path / f"b{i}.raw").write_bytes(b"voxels")
    before = sha256_of(tmp_path / name)
    assert size_of(tmp_path / name) == len(lines) + 7 + 12
    (tmp_path / "b2.raw").write_bytes(b"VOXELS")
    assert sha256_of(tmp_path / name) != before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["numbers.txt"]


def test_nothing_has_the_name_before_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with atomic_path(path) as temporary:
        temporary.write_text("weights")
        assert not path.exists()
        assert temporary.suffix == ".pt"
    assert path.read_text() == "weights"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_is_refused_and_the_old_json_kept(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"dice": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"dice": float("nan")})
    assert read_json(path, "summary") == {"dice": 0.5}


@pytest.mark.parametrize(
    ("text", "reason"), [(None, "there is no file"), ("{half", "not valid JSON"), ("[1, 2]", "JSON object, not a list")]
)
def test_an_unusable_json_is_named_with_its_key(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "split.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        read_json(path, "split_path")
    assert str(caught.value).startswith("split_path: ")
    assert str(path) in str(caught.value)


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("program", "end"),
    [("monai/bundle/__main__.py", " (a training goes on with --resume True)."), ("monailabel/app.py", " again.")],
)
def test_a_full_disk_is_one_line_and_the_old_file_stands(
    program: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a stage's command can do is said to nobody else."""
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})
    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr("sys.argv", [program])
    with pytest.raises(InputError, match=rf"^the disk is full: .*run.json was not written.*{re.escape(end)}$"):
        write_json(path, {"new": 2})
    assert read_json(path, "run") == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("free", "error"), [(100, InputError), (10**9, RuntimeError)])
def test_writers_that_do_not_say_why_are_understood(
    free: int, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(error), atomic_path(tmp_path / "mask.nrrd"):
        raise RuntimeError("ITK ERROR: Error writing")


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "name") as temporary:
        (tmp_path / "name").mkdir()
        temporary.write_text("content")


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"epoch": 1}')
    append_line(path, '{"epoch": 2}')

    class Short(io.FileIO):
        """The disk takes three bytes more."""

        def write(self, content: bytes) -> int:  # type: ignore[override]
            return super().write(content[:3])

    monkeypatch.setattr("builtins.open", lambda name, mode, buffering: Short(name, mode))
    with pytest.raises(InputError, match="the disk is full"):
        append_line(path, '{"epoch": 3}')
    monkeypatch.undo()
    assert path.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
