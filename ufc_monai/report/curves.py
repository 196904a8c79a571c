"""Training curves from ``metrics.jsonl``, as SVG."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from ufc_monai.report.drawing import unframed

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


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
    # the page's reader has fonts; the same metrics make the same file
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "ufc", "font.family": "sans-serif", "font.size": 9}):
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
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
