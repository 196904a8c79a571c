"""The picture of volumes that are to be labelled first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ufc_monai.report.drawing import save, shortened, unframed


def save_coverage(
    path: str | os.PathLike[str],
    rows: Mapping[str, NDArray[np.float64]],
    covered: Sequence[float],
    at_random: Sequence[float],
) -> None:
    """Draw which clusters the chosen volumes hold beside those of all volumes, and how the coverage grows.

    Args:
        path: the PNG file.
        rows: share of each cluster, (clusters,), by the name of the row.
        covered: share of the average volume that the first 1, 2, ... chosen volumes cover.
        at_random: share that as many volumes drawn at random cover.
    """
    figure = Figure(figsize=(12, max(3.0, 0.3 * len(rows) + 1.4)), layout="constrained")
    table, curve = figure.subplots(1, 2, gridspec_kw={"width_ratios": [2.2, 1]})
    drawn = table.imshow(100 * np.array(list(rows.values())), aspect="auto", cmap="viridis", vmin=0)
    table.set_yticks(range(len(rows)), [shortened(name, 32) for name in rows], fontsize=8)
    table.set_xlabel("cluster, from the largest to the smallest")
    table.xaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(drawn, ax=table, label="% of the volume's slices")
    steps = np.arange(1, len(covered) + 1)
    curve.plot(steps, 100 * np.array(covered), "o-", color="tab:blue", label="chosen")
    curve.plot(steps, 100 * np.array(at_random), "o--", color="tab:grey", label="at random, mean")
    curve.set(xlabel="volumes", ylabel="covered of the average volume, %", ylim=(0, 100))
    unframed(curve, whole=True)
    curve.legend(frameon=False, loc="lower right")
    save(figure, path)
