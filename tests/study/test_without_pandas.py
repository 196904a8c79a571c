from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ufc_monai.__main__ import main


@pytest.mark.parametrize("words", [["study", "--dataset_dir", "."], ["report"]])
def test_a_study_without_its_extra_says_how_to_install_it(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("ufc_monai.study")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    (tmp_path / "study.json").touch()
    assert main([*words, "--folder", str(tmp_path)]) == 1
    assert 'pandas, which is not installed. Run: pip install "ufc-monai[study]"' in capsys.readouterr().err
