"""Draw the masks of README.md, of a synthetic patient: docs/masks.png.

    python -m ufc_monai demo
    python benchmarks/readme_picture.py demo docs/masks.png

The test patient with the lowest Dice, in the axial and the coronal plane through the structure with the most area.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ufc_monai.base.chain import TEST, UNET_WEIGHTS
from ufc_monai.base.files import read_json
from ufc_monai.report.drawing import save
from ufc_monai.report.masks import draw_masks, read_planes


def main() -> None:
    """Draw what a run has left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    names = list(read_json(given.run / UNET_WEIGHTS[1], "run")["labels"])
    worst = next(iter(read_planes(given.run / TEST.place / "planes.npz").values()))
    largest = max(worst, key=lambda structure: np.count_nonzero(worst[structure][0].reference == structure))
    save(draw_masks({"mask": {largest: worst[largest][:2]}}, largest, names), given.output)


if __name__ == "__main__":
    main()
