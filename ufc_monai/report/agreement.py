"""Picture of how well clusters agree with an observer's labels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ufc_monai.report.drawing import save, shortened, unframed


def save_agreement(
    path: str | os.PathLike[str], rows: Mapping[str, Mapping[str, float]], measures: Sequence[str], majority: float
) -> None:
    """Draw measures of methods with their intervals, beside the rate of the most frequent class.

    Args:
        path: PNG file to write.
        rows: measures of each method, by its name; an interval has ``_low`` and ``_high`` behind the measure's name.
        measures: a panel for each; a method may lack some.
        majority: the rate, drawn where a measure is an accuracy.
    """
    figure = Figure(figsize=(3 * len(measures) + 2, 0.32 * len(rows) + 1.2), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for axes, measure in zip(panels, measures, strict=True):
        known = [(i, row) for i, row in enumerate(rows.values()) if measure in row]
        values = np.array([row[measure] for _, row in known])
        ends = np.array([[row[f"{measure}_low"], row[f"{measure}_high"]] for _, row in known]).reshape(-1, 2).T
        axes.errorbar(values, [i for i, _ in known], xerr=np.abs(ends - values), fmt="o", color="tab:blue", capsize=2)
        if measure not in ("nmi", "ari"):
            axes.axvline(majority, color="tab:grey", linestyle="--", linewidth=1)
        axes.set(xlabel=measure.replace("_", " "), xlim=(min(0.0, *values) if len(values) else 0, 1))
        unframed(axes)
    panels[0].set_yticks(range(len(rows)), [shortened(name, 40) for name in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    save(figure, path)
