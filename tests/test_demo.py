from __future__ import annotations

from pathlib import Path

import pytest

from ufc_monai.__main__ import main
from ufc_monai.data import MMWHS_LABELS
from ufc_monai.demo import demo_stages, dice_table, run_demo
from ufc_monai.errors import InputError


def test_the_table_shows_both_columns(tmp_path: Path) -> None:
    for name, dice in (("a", "0.5"), ("b", "0.7")):
        (tmp_path / name).write_text(f"volume,mean,aorta,atrium\nx,{dice},{dice},\ny,{dice},0.1,0.3\n")
    table = dice_table({"random initialisation": tmp_path / "a", "pretrained encoder": tmp_path / "b"}).splitlines()
    assert table[0].split() == ["Dice", "random", "initialisation", "pretrained", "encoder"]
    assert table[1].split() == ["aorta", "0.300", "0.400"]
    assert table[2].split() == ["atrium", "0.300", "0.300"]
    assert table[3].split() == ["mean", "0.500", "0.700"]


def test_both_arms_differ_in_their_start_alone() -> None:
    commands = [stage.command for stage in demo_stages() if "fine-tune" in stage.title]
    random, pretrained = (" ".join(command) for command in commands)
    assert random.replace("--pretrained_path none ", "").replace("random/", "pretrained/") == pretrained


def printed_table(text: str) -> list[str]:
    return text[text.index("random initialisation  pretrained encoder") :].splitlines()[: 2 + len(MMWHS_LABELS)]


@pytest.mark.slow
def test_demo_ends_with_the_table_and_goes_on_from_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundles = Path(__file__).parents[1] / "bundles"
    with caplog.at_level("INFO"):
        run_demo(tmp_path / "demo", bundles, patients=8)
        assert caplog.text.count("python -m monai.bundle run") == len(demo_stages())
        assert "skipped" not in caplog.text
        first = printed_table(caplog.text)
        caplog.clear()
        run_demo(tmp_path / "demo", bundles, patients=8)
    assert caplog.text.count("complete, skipped") == len(demo_stages())
    assert first == printed_table(caplog.text)
    assert [row.split()[0] for row in first[1:]] == [*MMWHS_LABELS, "mean"]


def test_errors_are_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--bundles", str(tmp_path), "--folder", str(tmp_path / "demo")]) == 1
    assert capsys.readouterr().err.startswith("error: --bundles: there is no bundle")
    with pytest.raises(InputError, match="8 or more"):
        run_demo(tmp_path, "bundles", patients=3)
