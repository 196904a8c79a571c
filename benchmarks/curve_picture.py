"""Draw README's curve, Dice against labelled volumes, from what studies have recorded: docs/dice.png.

    python benchmarks/curve_picture.py docs/results/btcv_bent.csv docs/results/btcv_few.csv docs/dice.png

Of fold 0, whose draws all studies have; intervals over patients and draws, as in the study's own picture.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ufc_monai.report.curves import save_label_curves
from ufc_monai.study.results import Results

ARMS = {
    "random+paper": "the paper's fine-tuning",
    "random": "bent and mixed slices: the default",
    "random+self_training": "and the scans without labels",
}


def main() -> None:
    """Draw the arms over all budgets of the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    curves: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in ARMS.values()}
    for path in given.studies:
        found = Results.load(path)
        found = replace(found, measured=found.measured[found.measured["fold"] == 0])
        for arm, name in ARMS.items():
            means = {float(budget): found.interval(arm, budget) for budget in found.budgets}
            curves[name] += [(budget, *mean) for budget, mean in means.items() if mean]
    save_label_curves(given.output, {name: sorted(points) for name, points in curves.items()})


if __name__ == "__main__":
    main()
