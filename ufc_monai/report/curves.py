"""Curves as pictures: of a training, from ``metrics.jsonl``, and of a study, Dice against labels and by structure."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ufc_monai.report.drawing import OKABE_ITO, save, unframed

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")

SVG: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "ufc", "font.family": "sans-serif", "font.size": 9}
"""The page's reader has fonts; the same figures make the same file."""
BARS = ("#000000", *OKABE_ITO, "#9467bd", "#b9936c")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``; none if there is no file. An incomplete last line is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def curves_svg(metrics: Sequence[Mapping[str, Any]], panels: Sequence[Sequence[str]]) -> str:
    """Draw metrics over epochs.

    Args:
        metrics: one mapping an epoch, with ``epoch`` and further numbers; a metric may be missing in some.
        panels: for each panel the names of the metrics in it; names that no epoch has are left out. ``chance`` is
            drawn dashed, since it is a level, not a result.

    Returns:
        An SVG file's content, or nothing if there is nothing to draw.
    """
    held = [[name for name in names if any(name in line for line in metrics)] for names in panels]
    held = [names for names in held if names]
    if not held:
        return ""
    with rc_context(SVG):
        figure = Figure(figsize=(3.6 * len(held), 2.6), layout="constrained")
        for axes, names in zip(figure.subplots(1, len(held), squeeze=False)[0], held, strict=True):
            for name, colour in zip(names, COLOURS, strict=False):
                points = [(line["epoch"], line[name]) for line in metrics if name in line]
                style = "--" if name == "chance" else "-"
                marker = "." if len(points) < 30 else ""
                axes.plot(*zip(*points, strict=True), style, marker=marker, color=colour, label=name.replace("_", " "))
            axes.set_xlabel("epoch")
            unframed(axes, whole=True)
            if any("dice" in name for name in names):
                axes.set_ylim(0, 1)
            axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


def rounds_svg(points: Sequence[tuple[int, float]]) -> str:
    """Draw the test Dice of rounds, ``(labelled volumes, Dice)`` each, in order: an SVG file's content."""
    with rc_context(SVG):
        figure = Figure(figsize=(3.6, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*points, strict=True), ".-", color=COLOURS[0])
        axes.set(xlabel="labelled volumes", ylabel="test Dice", ylim=(0, 1))
        axes.set_xticks(sorted({volumes for volumes, _ in points}))
        unframed(axes, whole=True)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def save_label_curves(
    path: str | os.PathLike[str], curves: Mapping[str, Sequence[tuple[float, float, float, float]]]
) -> None:
    """Draw Dice against the number of labelled volumes.

    Args:
        path: the PNG file.
        curves: by method, ``(volumes, mean, low, high)`` for each budget.
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    budgets = sorted({point[0] for points in curves.values() for point in points})
    for i, (method, points) in enumerate(curves.items()):
        volumes, mean, low, high = np.array(points, dtype=float).reshape(-1, 4).T
        beside = volumes * 1.03 ** (i - (len(curves) - 1) / 2)  # so that the intervals do not hide each other
        bars = np.array([mean - low, high - mean]).clip(min=0)
        axes.errorbar(beside, mean, bars, fmt="o-", capsize=3, color=BARS[i % len(BARS)], label=method, ms=4)
    axes.set(xscale="log", xlabel="labelled volumes", ylabel="mean Dice, %")
    axes.set_xlim(budgets[0] / 1.5, budgets[-1] * 1.5)  # otherwise a single number of labels would fill the axis
    axes.set_xticks(budgets, [f"{n:g}" for n in budgets])
    axes.minorticks_off()
    unframed(axes)
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def save_structure_bars(
    path: str | os.PathLike[str], structures: Sequence[str], panels: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Draw Dice by structure.

    Args:
        path: the PNG file.
        structures: their names.
        panels: by the title of a panel, by method, Dice of each structure; NaN leaves a gap.
    """
    figure = Figure(figsize=(max(6.0, 1.1 * len(structures) + 2), 2.6 * len(panels)), layout="constrained")
    for axes, (title, bars) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True):
        width = 0.8 / max(1, len(bars))
        for i, (method, dice) in enumerate(bars.items()):
            x = np.arange(len(structures)) + (i - (len(bars) - 1) / 2) * width
            axes.bar(x, np.nan_to_num(dice), width, label=method, color=BARS[i % len(BARS)])
        axes.set_xticks(range(len(structures)), structures, fontsize=8, rotation=20 if len(structures) > 4 else 0)
        axes.set_title(title, fontsize=9)
        axes.set(ylim=(0, 100), ylabel="Dice, %")
        unframed(axes)
    figure.axes[0].legend(frameon=False, fontsize=7, ncols=4)
    save(figure, path)
