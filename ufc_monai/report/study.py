"""Pictures of a study: Dice against labels, and by structure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ufc_monai.report.drawing import OKABE_ITO, save, unframed

COLOURS = ("#000000", *OKABE_ITO, "#9467bd", "#b9936c")


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
        axes.errorbar(beside, mean, bars, fmt="o-", capsize=3, color=COLOURS[i % len(COLOURS)], label=method, ms=4)
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
            axes.bar(x, np.nan_to_num(dice), width, label=method, color=COLOURS[i % len(COLOURS)])
        axes.set_xticks(range(len(structures)), structures, fontsize=8, rotation=20 if len(structures) > 4 else 0)
        axes.set_title(title, fontsize=9)
        axes.set(ylim=(0, 100), ylabel="Dice, %")
        unframed(axes)
    figure.axes[0].legend(frameon=False, fontsize=7, ncols=4)
    save(figure, path)
