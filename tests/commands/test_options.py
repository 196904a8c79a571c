from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fold", "1"], "--fold must be 0 to 0 for this data set"),
        (["--fold", "abc"], "--fold must be a whole number of 0 or more, got 'abc'"),
        (["--threads", "two"], "--threads must be a whole number"),
        (["--ignore_labels", "3"], "--ignore_labels must be a list"),
        (["--window", "['a','b']"], "--window must be two rising numbers"),
        ([], "label 'whole' has [1, 2] in the place of one id"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.nii.gz").touch()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "whole": [1, 2], "core": 2}}')
    assert main(["check", str(tmp_path), "--bundles", str(ROOT / "bundles"), *arguments]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert message.startswith("error: ")
    assert len(message.splitlines()) == 1
