"""A Decathlon data set made small enough to travel: 128 pixels in plane, the window's values as 8 bits.

    python benchmarks/small_data.py DATA OUT --keys KEYS.json [--side 128]

KEYS.json holds ``window`` and ``labels`` of the data set. Structures are numbered from 1, all others are background;
the window of OUT is [0,255].
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel
import numpy as np
from nnunet import made_small


def main() -> None:
    """Make the volumes small, then their values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--keys", type=Path, required=True)
    a = parser.parse_args()
    keys = json.loads(a.keys.read_text())
    low, high = keys["window"]
    folder = made_small(a.data, a.out, a.side, keys["labels"])
    for path in folder.glob("imagesTr/*.nii.gz"):
        image = nibabel.load(path)
        values = ((np.asarray(image.dataobj) - low) / (high - low)).clip(0, 1) * 255
        nibabel.save(nibabel.Nifti1Image(values.round().astype(np.uint8), image.affine), path)
    print(f"{sum(path.stat().st_size for path in folder.rglob('*.nii.gz')) / 1e6:.0f} MB in {folder}")


if __name__ == "__main__":
    main()
