"""An error of any kind ends a command at once, in one line, whatever it came from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import NAMES, ROOT, SMALL, copy_bundles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monai.utils import optional_import

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError, find_input_error, last_words, unwrapped
from ufc_monai.phantom.ct import make_phantom


class MuteError(Exception):
    """An error whose own message cannot be had."""

    def __str__(self) -> str:
        raise ValueError("no message")


KINDS: list[Any] = [
    *(ValueError, KeyError, RuntimeError, RecursionError, ArithmeticError, AssertionError, StopIteration, EOFError),
    *(PermissionError, MemoryError, ModuleNotFoundError, MuteError, InputError),
    lambda text: UnicodeDecodeError("utf-8", b"\xff", 0, 1, text),
    lambda text: OSError(28, text),
    lambda text: ExceptionGroup(text, [ValueError(text)]),
]
LINKS = st.lists(st.tuples(*[st.integers(0, 3)] * 2, st.sampled_from(["__cause__", "__context__"])), max_size=8)


@given(st.lists(st.sampled_from(KINDS), min_size=4, max_size=4), st.text(max_size=400), LINKS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_raised_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[Any], text: str, links: list[tuple[int, int, str]]
) -> None:
    errors = [kind(text) for kind in kinds]
    for start, end, link in links:
        setattr(errors[start], link, errors[end])
    said: list[str] = []

    def fail(*_: object, **__: object) -> None:
        raise errors[0]

    monkeypatch.setattr("ufc_monai.commands.cut.cut", fail)
    monkeypatch.setattr("sys.stderr.write", said.append)
    assert main(["cut", "--k", "3", "--folder", str(tmp_path)]) == 1
    message = "".join(said)
    assert message.startswith("error: ")
    found = find_input_error(errors[0])
    if found is None:
        assert len(message.splitlines()) == 1
        assert message.endswith(f"(traceback: {tmp_path / 'log.txt'})\n")
    else:
        assert message == f"error: {found}\n"


def test_the_error_that_monai_has_wrapped_is_raised_and_never_its_own_cause() -> None:
    with pytest.raises(InputError, match="dataset_dir") as caught, unwrapped():
        try:
            raise InputError("dataset_dir")
        except InputError as e:
            raise RuntimeError("MONAI wraps it") from e
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(KeyError) as other, unwrapped():
        raise KeyError("a bug")
    assert other.value.__cause__ is None


@pytest.mark.parametrize("place", ["a", "a/b"])
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match=r"exists|Not a directory") as caught:
        (tmp_path / place).mkdir()
    assert last_words(caught.value).startswith(f"{tmp_path / place} exists already, or lies below a file. Move")


def test_the_log_holds_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a bug\nof two lines")

    monkeypatch.setattr("ufc_monai.commands.cut.cut", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    words = ["cut", "--k", "3", "--folder", str(tmp_path / "gone")]
    assert main(words) == 1
    (log,) = tmp_path.glob("ufc_monai_*.log")
    assert capsys.readouterr().err == f"error: KeyError: 'a bug\\nof two lines' (traceback: {log})\n"
    assert log.read_text().startswith("Traceback (most recent call last)")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "log.txt").write_text("of the run\n")
    assert main(words) == 1
    assert (tmp_path / "gone" / "log.txt").read_text().startswith("of the run\nTraceback")
    monkeypatch.setenv("UFC_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(words)


def python(words: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(cwd), **environment}
    return subprocess.run([sys.executable, *words], cwd=cwd, env=variables, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", ["check", "phantom"])
def test_a_python_without_the_requirements_says_which_is_missing(tmp_path: Path, command: str) -> None:
    done = python(["-S", "-m", "ufc_monai", command, str(tmp_path)], tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: the package ")
    assert f"is not installed for {sys.executable}" in done.stderr
    assert "pip install -e ." in done.stderr


def without_kornia(folder: Path) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['kornia'] = None\n")
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


def test_a_missing_package_is_named_by_a_command(tmp_path: Path) -> None:
    make_phantom(tmp_path / "scans", patients=4, matrix=40)
    words = ["-m", "ufc_monai", "check", "scans", "--preset", "cpu", "--bundles", str(ROOT / "bundles")]
    done = python(words, tmp_path, **without_kornia(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the package kornia is not installed for")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("warm")
def test_a_bundle_says_an_unexpected_error_in_one_line_too(tmp_path: Path) -> None:
    """Before the run has a record, the traceback goes to the temporary folder; after that, beside the record."""
    make_phantom(tmp_path / "data", patients=4, matrix=40)
    bundle = copy_bundles(tmp_path / "bundles") / NAMES[0]
    words = ["-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(bundle / "configs" / "train.json")]
    words += ["--bundle_root", str(bundle), "--dataset_dir", "data"]
    words += [word for key, value in SMALL[NAMES[0]].items() for word in (f"--{key}", str(value))]
    early = python([*words, "--train::trainer::max_epochs", "$1/0"], tmp_path)
    late = python([*words, "--train::trainer::train_handlers", "$1"], tmp_path)
    for done in (early, late):
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
    (log,) = tmp_path.glob("ufc_monai_*.log")
    assert early.stderr.splitlines()[-1] == f"error: ZeroDivisionError: division by zero (traceback: {log})"
    assert "Traceback" in log.read_text()
    assert late.stderr.splitlines()[-1].endswith(f"(traceback: {bundle / 'eval' / 'train' / 'log.txt'})")


def test_a_number_in_quotes_in_network_json_ends_segment(
    chain: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(chain / NAMES[2], tmp_path / NAMES[2]))
    network = bundle / "models" / "network.json"
    about = json.loads(network.read_text())
    about["preprocessing"]["image_size"] = "64"
    network.write_text(json.dumps(about))
    scan = next(phantom.glob("*_image.nii.gz"))
    assert main(["segment", "--weights", str(bundle), str(scan), str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: --weights: ")
    assert "image_size should be a whole number above 0, got '64'" in message
    assert len(message.splitlines()) == 1


def test_a_package_of_an_extra_is_named_with_it() -> None:
    for package, extra in (("mlflow", "'.[tracking]'"), ("pandas", "'.[study]'"), ("kornia", ".")):
        reason = find_input_error(ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.part"))
        assert str(reason).endswith(f"-m pip install -e {extra}")


def test_a_package_that_monai_misses_is_named() -> None:
    writer, _ = optional_import("nowhere_at_all.writer", name="SummaryWriter")
    with pytest.raises(ImportError) as caught:
        writer()
    assert str(find_input_error(caught.value)).startswith("the package nowhere_at_all is not installed for")
