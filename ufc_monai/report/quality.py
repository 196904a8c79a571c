"""``quality.csv`` as a person reads it: the scans whose masks are probably worst come first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.tables import read_table
from ufc_monai.report.page import aligned, counted

SHOWN = 10
"""Scans in the terminal."""
HEAD = ("scan", "predicted Dice", "worst structure", "its predicted Dice", "look at")


@dataclass(frozen=True)
class ScanQuality:
    """What ``quality.csv`` says of a scan.

    Attributes:
        scan: its name there.
        names: of all structures.
        structures: the predicted Dice of those that have one.
        notes: what is odd, each with the structures that it is said of, or of all.
    """

    scan: str
    names: Sequence[str]
    structures: Mapping[str, float]
    notes: str

    @property
    def dice(self) -> float | None:
        """The mean over structures; ``None`` where none is predicted."""
        return statistics.fmean(self.structures.values()) if self.structures else None


def read_quality(path: Path) -> list[ScanQuality]:
    """The scans of a ``quality.csv``, worst first; none if there is no such file.

    Raises:
        InputError: if it is damaged, or another table.
    """
    if not path.is_file():
        return []
    scans: dict[str, list[dict[str, str]]] = {}
    try:
        for row in read_table(path):
            scans.setdefault(row["scan"], []).append(row)
        found = [_scan(name, rows) for name, rows in scans.items()]
    except (AttributeError, KeyError, ValueError) as e:
        raise InputError(
            f"{path} is damaged, or another table ({type(e).__name__}: {e}). Segment again, or delete it."
        ) from e
    return sorted(found, key=lambda scan: 2.0 if scan.dice is None else scan.dice)


def quality_rows(scans: list[ScanQuality]) -> list[tuple[str, ...]]:
    """Cells below :data:`HEAD`."""
    worst = [min(scan.structures, key=scan.structures.__getitem__, default="-") for scan in scans]
    lowest = [two_digits(scan.structures.get(name)) for scan, name in zip(scans, worst, strict=True)]
    return [(s.scan, two_digits(s.dice), *of, s.notes) for s, *of in zip(scans, worst, lowest, strict=True)]


def quality_text(scans: list[ScanQuality], calibration: object) -> str:
    """The worst scans as lines of text.

    Args:
        scans: worst first.
        calibration: how their Dice was predicted, and how well.
    """
    left = f"\n{len(scans) - SHOWN} more in quality.csv" if len(scans) > SHOWN else ""
    return f"predicted Dice, worst first ({calibration})\n{aligned([HEAD, *quality_rows(scans[:SHOWN])], left=5)}{left}"


def two_digits(dice: float | None) -> str:
    """A predicted Dice, which is not known to more digits."""
    return "-" if dice is None else f"{dice:.2f}"


def _scan(name: str, rows: list[dict[str, str]]) -> ScanQuality:
    dice = {row["structure"]: float(row["predicted_dice"]) for row in rows if row["predicted_dice"]}
    of_note: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["note"].split("; ")):
            of_note.setdefault(note, []).append(row["structure"])
    few = {n: ", ".join(names) if len(names) < 3 else counted(len(names), "structure") for n, names in of_note.items()}
    notes = [n if len(of_note[n]) == len(rows) else f"{n}: {names}" for n, names in few.items()]
    return ScanQuality(name, [row["structure"] for row in rows], dice, "; ".join(notes))
