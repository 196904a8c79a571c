"""Two runs in one folder would write over each other: the second is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.base.errors import InputError
from ufc_monai.base.lock import at_work
from ufc_monai.commands import run
from ufc_monai.data.case import Case
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.stages import Step


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.nii.gz").write_text("a")
    return RunOptions(data, tmp_path / "run", ROOT / "bundles", preset="cpu", estimate=False)


def begin(options: RunOptions, *planned: Step) -> None:
    run.run_stages(options, [Case("a.nii.gz", None, "a")], planned)


def test_the_second_is_refused_in_one_line(options: RunOptions) -> None:
    with (
        at_work(options.folder / "run.lock"),
        pytest.raises(InputError, match=r"^--folder: .* is in use \(process \d+ on [^\n]*$"),
    ):
        begin(options)
    assert [path.name for path in options.folder.iterdir()] == ["run.lock"]
    begin(options)


def test_a_stage_holds_the_folder_too(options: RunOptions) -> None:
    """So that what a killed run has left behind keeps others out until it has ended."""
    script = options.folder / "script.py"
    script.parent.mkdir()
    script.write_text("import os, sys; sys.exit(0 if os.fstat(int(sys.argv[3])).st_ino == int(sys.argv[5]) else 3)")
    with at_work(options.folder / "run.lock") as held:
        words = ("--held", str(held), "--file", str(os.fstat(held).st_ino))
    command = ("python", "-m", "script", "run", *words, "--config_file", "a.json")
    (options.folder / "a.json").touch()
    with pytest.raises(InputError, match="ended without writing x"):
        begin(options, Step("a stage", command, "run.json", ("x",)))
