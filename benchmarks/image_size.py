"""How large slices should be when time is short: Dice against ``image_size``, each size trained for the same time.

    python benchmarks/image_size.py DATA OUT [--sizes 64,96,128] [--steps 1500] [--jobs 2] [--keys KEYS.json]

Stage 3 of cpu.json from random weights on two labelled volumes of fold 0. A step's work goes with the pixels, so that
``--steps`` of 64 x 64 pixels are 667 of 96 x 96 and 375 of 128 x 128. The last weights are judged on the validation
volumes, on the volumes' own grid; test volumes are not looked at. OUT/image_size.csv has a row a run, OUT is gone on
with. KEYS.json holds keys of the data set: window, labels, background_labels.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from recipe import BUNDLE, VARIANTS, run_bundle, train, write

from ufc_monai.base.bundles import UNET

FOLD = 0


def judged(data: Path, out: Path, folder: Path) -> Path:
    """The table of a run's Dice on its validation volumes, as the bundle's test makes it of test volumes."""
    table = folder / "own_grid" / "dice.csv"
    if not table.is_file():
        keys = {"ckpt_dir": str(folder / "models"), "output_dir": str(table.parent), "threads": 1}
        write(table.parent / "judge.json", data, out, {**keys, "validate::dataset::data": "$@split.validation(@fold)"})
        configs = [str(BUNDLE / "configs" / f"{name}.json") for name in ("train", "evaluate")]
        run_bundle(UNET, [*configs, str(table.parent / "judge.json")])
    return table


def one(data: Path, out: Path, keys: Mapping[str, Any], size: int, steps: int, draw: int) -> dict[str, Any]:
    """Train and judge one run: steps, seconds of training, Dice in percent, mean and by structure."""
    least = round(steps * 64**2 / size**2)
    name = f"size{size}_{least}"
    VARIANTS[name] = [], {"image_size": size, "min_steps": least, "epochs": 1}
    folder = train(data, out, keys, name, FOLD, draw)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    dice = pd.read_csv(judged(data, out, folder)).mean(numeric_only=True) * 100
    row = {"image_size": size, "draw": draw, "steps": lines[-1]["iteration"]}
    return row | {"seconds": round(sum(line["seconds"] for line in lines))} | dice.to_dict()


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sizes", default="64,96,128")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--draws", default="0,1")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keys", type=Path)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    data, out = a.data.resolve(), a.out.resolve()
    keys = {"labelled_volumes": 2, **(json.loads(a.keys.read_text()) if a.keys else {})}
    runs = [(int(size), int(draw)) for draw, size in product(a.draws.split(","), a.sizes.split(","))]
    with ThreadPoolExecutor(a.jobs) as pool:
        table = pd.DataFrame(list(pool.map(lambda run: one(data, out, keys, run[0], a.steps, run[1]), runs)))
    table.to_csv(out / "image_size.csv", index=False, float_format="%.2f")
    means = table.groupby("image_size").mean(numeric_only=True).drop(columns="draw").round(1)
    print(means.T.to_string())
    print("RESULT", *(f"{size}={value}" for size, value in means["mean"].items()))


if __name__ == "__main__":
    main()
