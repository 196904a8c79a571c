"""``quality.csv`` as the terminal and the report show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.report.quality import quality_text, read_quality

HEAD = "scan,structure,predicted_dice,agreement,confidence,fragments,millilitres,unlikeness,note\n"


def rows(scan: str, *dice: str, note: str = "") -> str:
    names = ("aorta", "liver", "spleen")
    return "".join(f"{scan},{name},{d},,,,,,{note}\n" for name, d in zip(names, dice, strict=False))


def test_the_worst_scan_comes_first_with_what_to_look_at(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    text = rows("good", "0.9", "0.8", "") + rows("bad", "0.2", "0.7", "0.3", note="scan unlike the training set")
    path.write_text(
        HEAD + text + rows("empty", "", "") + rows("odd", "0.9", note="not found") + "odd,liver,0.5,,,,,,\n"
    )
    scans = read_quality(path)
    assert [scan.scan for scan in scans] == ["bad", "odd", "good", "empty"]
    lines = quality_text(scans, "calibrated on 2 validation volumes").splitlines()
    assert lines[0] == "predicted Dice, worst first (calibrated on 2 validation volumes)"
    assert lines[2].split() == ["bad", "0.40", "aorta", "0.20", "scan", "unlike", "the", "training", "set"]
    assert lines[3].split() == ["odd", "0.70", "liver", "0.50", "not", "found:", "aorta"]
    assert lines[5].split() == ["empty", "-", "-", "-"]


def test_the_terminal_shows_ten(tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    path.write_text(HEAD + "".join(rows(f"scan{n}", "0.5") for n in range(12)))
    lines = quality_text(read_quality(path), "").splitlines()
    assert len(lines) == 13
    assert lines[-1] == "2 more in quality.csv"
    assert read_quality(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    "content",
    [b"volume,mean\na,0.5\n", HEAD.encode() + b"a,aorta,high,,,,,,\n", HEAD.encode() + b"a,aorta\n", b"\xff\xfe\n"],
)
def test_another_table_is_said_to_be_one(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "quality.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"quality\.csv is damaged, or another table \(.*Segment again, or delete it"):
        read_quality(path)
