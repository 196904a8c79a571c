"""What the report shows of each test volume and each unlabelled scan: its masks and figures, the worst first."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.tables import read_table
from ufc_monai.report.drawing import jpeg
from ufc_monai.report.masks import Planes, draw_masks, read_planes
from ufc_monai.report.page import data_uri
from ufc_monai.report.quality import ScanQuality, two_digits

MEASURES = {"dice": "Dice", "hd95_mm": "HD95, mm", "surface_dice_2mm": "surface Dice, 2\u00a0mm"}
"""Columns of structures.csv, and what they are called; of pictures, mm are pixels."""
Figures = Mapping[str, float]
"""The measures that are defined, by their columns."""


def read_structures(path: Path) -> dict[str, dict[str, Figures]]:
    """The figures of a ``structures.csv``, by volume and structure; none if there is no such file.

    Raises:
        InputError: if it is damaged.
    """
    found: dict[str, dict[str, Figures]] = {}
    try:
        for row in read_table(path):
            known = {name: float(row[name]) for name in MEASURES if row.get(name)}
            found.setdefault(row["volume"], {})[row["structure"]] = known
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError, ValueError) as e:
        raise InputError(f"{path} is damaged ({type(e).__name__}: {e}). Test again, or delete it.") from e
    return found


def volumes_of_test(arms: Mapping[str, Path]) -> dict[str, Any]:
    """The tables of the test, and each volume's masks.

    Args:
        arms: the ``dice.csv`` of each arm, by its title; the other files lie beside it. The first orders the volumes.
    """
    figures = {arm: read_structures(path.with_name("structures.csv")) for arm, path in arms.items()}
    planes = {arm: read_planes(path.with_name("planes.npz")) for arm, path in arms.items()}
    means = {arm: {volume: _means(rows.values()) for volume, rows in of.items()} for arm, of in figures.items()}
    dice = {volume: row["dice"] for volume, row in next(iter(means.values()), {}).items() if "dice" in row}
    ranked = sorted(dice, key=dice.__getitem__)
    # of one or two volumes none is the median
    of_note = {ranked[len(ranked) // 2]: "median", ranked[-1]: "best", ranked[0]: "worst"} if ranked[2:] else {}
    names = [*next(iter(next(iter(figures.values()), {}).values()), {})]
    shown, kept = [], next(iter(planes.values()), {})
    for volume in [volume for volume in ranked if volume in kept]:
        rows = [of.get(volume, {}) for of in figures.values()]
        table = [[name, *_cells([of.get(name, {}) for of in rows])] for name in names]
        said = ", ".join(f"{arm} {_cell('dice', of.get(volume, {}))}" for arm, of in means.items())
        worst = sorted((row["dice"], name) for name, row in rows[0].items() if "dice" in row)
        drawn = _drawn({arm: of[volume] for arm, of in planes.items() if volume in of}, [n for _, n in worst], names)
        title = f"{of_note[volume]}: {volume}" if volume in of_note else volume
        shown += [{"title": title, "said": f"Mean Dice: {said}", "table": table, **drawn}] if drawn else []
    of_structures = {
        name: _cells([_means(row[name] for row in of.values() if name in row) for of in figures.values()])
        for name in names
    }
    mean = {"mean": _cells([_means(of.values()) for of in means.values()])} if names else {}
    return {
        "head": ["", *(f"{label}, {arm}" if len(arms) > 1 else label for label in MEASURES.values() for arm in arms)],
        "means": [[name, *cells] for name, cells in {**of_structures, **mean}.items()],
        "shown": shown,
        "left_out": len(ranked) - len(shown),
    }


def unlabelled_volumes(folder: Path, scans: Sequence[ScanQuality]) -> dict[str, Any]:
    """The masks of the scans without labels.

    Args:
        folder: of the masks.
        scans: worst first.
    """
    planes, shown = read_planes(folder / "planes.npz"), []
    for scan in scans:
        worst = sorted(scan.structures, key=scan.structures.__getitem__)
        drawn = _drawn({"mask": planes[scan.scan]}, worst, scan.names) if scan.scan in planes else {}
        said = "; ".join(filter(None, [f"Predicted Dice {two_digits(scan.dice)}", scan.notes]))
        shown += [{"title": scan.scan, "said": said, "table": [], **drawn}] if drawn else []
    return {"shown": shown, "left_out": len(scans) - len(shown)}


def _drawn(arms: Mapping[str, Planes], worst: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """The picture of a volume through the first structure that its planes hold, and what is on it in words."""
    held = next(iter(arms.values()), {})
    order = [*worst, *names]
    if not (structure := next((names.index(name) + 1 for name in order if names.index(name) + 1 in held), None)):
        return {}
    parts = ", ".join(["reference" if held[structure][0].reference is not None else "image", *arms])
    views = ", ".join(cut.title for cut in held[structure])
    through = f"planes through {names[structure - 1]}: {views}"
    return {
        "through": through,
        "alt": f"{through}. Beside each other: {parts}",
        "columns": 1 + len(arms),
        "picture": data_uri(jpeg(draw_masks(arms, structure, names)), "jpeg"),
    }


def _means(rows: Iterable[Figures]) -> Figures:
    """The mean of each measure over the rows that have it."""
    held = list(rows)
    values = {measure: [row[measure] for row in held if measure in row] for measure in MEASURES}
    return {measure: statistics.fmean(found) for measure, found in values.items() if found}


def _cells(arms: Sequence[Figures]) -> list[str]:
    return [_cell(measure, figures) for measure in MEASURES for figures in arms]


def _cell(measure: str, figures: Figures) -> str:
    """A figure to as many digits as everywhere: Dice to three, millimetres to one."""
    return f"{figures[measure]:.{1 if measure == 'hd95_mm' else 3}f}" if measure in figures else "-"
