"""Two runs in one folder would write over each other: the second is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.commands import run, stages
from ufc_monai.commands.options import RunOptions
from ufc_monai.commands.stages import Stage
from ufc_monai.data import Case
from ufc_monai.errors import InputError
from ufc_monai.lock import MARK, Lock


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.nii.gz").write_text("a")
    return RunOptions(data, tmp_path / "run", ROOT / "bundles", preset="cpu", estimate=False)


def begin(options: RunOptions, *planned: Stage) -> None:
    run.run_stages(options, [Case("a.nii.gz", None, "a")], planned)


def test_the_second_is_refused_in_one_line(options: RunOptions) -> None:
    first = Lock(options.folder / "run.lock")
    assert first.acquire()
    with pytest.raises(InputError, match=r"^--folder: another run is at work in [^\n]*$"):
        begin(options)
    assert [path.name for path in options.folder.iterdir()] == ["run.lock"]
    first.release()
    begin(options)
    assert not list(options.folder.glob("*.lock*"))


def test_a_run_that_fails_holds_nothing(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "copy_bundles", lambda *_: pytest.fail("stopped"))
    with pytest.raises(pytest.fail.Exception, match="stopped"):
        begin(options)
    assert Lock(options.folder / "run.lock").acquire()


def test_the_program_at_work_bears_the_mark_of_the_claim(options: RunOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next run can end what a killed one has left behind."""
    seen: list[bool] = []

    def wait(_words: object, _folder: object, environment: Mapping[str, str], *_: object) -> int:
        token = json.loads((options.folder / "run.lock").read_text())["token"]
        seen.append(environment[MARK] == token)
        return 1

    monkeypatch.setattr(stages, "_wait", wait)
    command = ("python", "-m", "monai.bundle", "run", "--config_file", "a.json")
    with pytest.raises(InputError, match="exit code 1"):
        begin(options, Stage("a stage", command, "run.json", (), ()))
    assert seen == [True]


def test_a_file_is_no_folder_of_a_run(options: RunOptions) -> None:
    options.folder.write_text("mine")
    with pytest.raises(InputError, match=r"^--folder: .* is a file"):
        begin(options)
