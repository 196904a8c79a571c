from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.commands import demo
from ufc_monai.commands.demo import run_demo


def test_demo_leaves_alone_what_it_did_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run_all", lambda _: None)
    monkeypatch.setattr(demo, "make_phantom", lambda folder, **_: folder.mkdir())
    for name in ("data", "phantom"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "precious.nii.gz").touch()
    with pytest.raises(InputError, match=r"phantom does not hold 8 patients"):
        run_demo(tmp_path, ROOT / "bundles", patients=8)
    (tmp_path / "phantom").rename(tmp_path / "mine")
    run_demo(tmp_path, ROOT / "bundles", patients=8)
    made = ["data/precious.nii.gz", "mine/precious.nii.gz"]
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/*")) == made
    assert (tmp_path / "phantom").is_dir()


def test_errors_are_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundles", str(tmp_path), "--folder", str(tmp_path / "demo")]) == 1
    assert capsys.readouterr().err.startswith("error: --bundles: there is no bundle")
    with pytest.raises(InputError, match="8 or more"):
        run_demo(tmp_path, ROOT / "bundles", patients=3)
