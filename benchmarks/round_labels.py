"""What the last round of self-training taught, beside the labels that it was not shown.

    python benchmarks/round_labels.py DATA OUT --variants self_symmetric,self_training [--folds 0,1] [--draws 0,1]

OUT is that of ``recipe.py``, whose runs are read. Of each structure's true voxels in the unlabelled training volumes:
the share that is learned as it, ignored, learned as background, and learned as another structure; and of the voxels
that are learned as it, the share that is not. Prints a row a variant and structure, over all of its runs, writes
OUT/round_labels.csv and prints a RESULT line.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from recipe import BUNDLE, files

from ufc_monai.self_training.rounds import Round
from ufc_monai.transforms.labels import IGNORE

HIDDEN = {
    "_target_": "ufc_monai.data.SliceDataset",
    "data": "$[v for v in @split.labelled(@fold) if v['image'] in {u['image'] for u in @unlabelled::volumes}]",
    "transform": "@train::preprocessing",
    "cache_dir": "@cache_dir",
}


def confusion(data: Path, out: Path, folder: Path) -> tuple[list[str], NDArray[np.int64]]:
    """The structures, and the voxels of each true class that were learned as each, (classes, 256)."""
    parser = ConfigParser()
    parser.read_config(files(folder.name.rsplit("_", 2)[0], folder))
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(data), "pretrained_path": "none", "hidden": HIDDEN})
    parser.update({"cache_dir": str(out / "cache"), "split_path": str(out / "split.json")})
    content = (parser.get_parsed_content(name) for name in ("class_ids", "unlabelled::dataset", "hidden"))
    names, unlabelled, hidden = content
    true = {entry.items[0]["id"]: entry for entry in hidden.entries}
    last = max((folder / "unlabelled_labels").glob("round_*/0"), key=lambda path: path.stat().st_mtime).parent
    counts = np.zeros((len(names) + 1, IGNORE + 1), dtype=np.int64)
    for volume, learned in zip(unlabelled.entries, Round.open(last).entries(), strict=True):
        pairs = true[volume.items[0]["id"]].array("label").astype(np.int64) * (IGNORE + 1) + learned.array("label")
        counts += np.bincount(pairs.ravel(), minlength=counts.size).reshape(counts.shape)
    return list(names), counts


def row(counts: NDArray[np.int64], c: int) -> dict[str, float]:
    """The shares of a class in percent."""
    all_of_it, as_it = counts[c].sum(), counts[:, c].sum()
    right, ignored, background = counts[c, c], counts[c, IGNORE], counts[c, 0]
    other = all_of_it - right - ignored - background
    shares = {"right": right, "ignored": ignored, "background": background, "another": other}
    return {**{name: 100 * n / all_of_it for name, n in shares.items()}, "false": 100 * (as_it - right) / max(1, as_it)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", default="self_symmetric,self_training")
    parser.add_argument("--folds", default="0,1")
    parser.add_argument("--draws", default="0,1")
    a = parser.parse_args()
    data, out, rows = a.data.resolve(), a.out.resolve(), list[dict[str, Any]]()
    for variant in a.variants.split(","):
        runs = [out / f"{variant}_{fold}_{draw}" for fold in a.folds.split(",") for draw in a.draws.split(",")]
        found = [confusion(data, out, folder) for folder in runs]
        counts = np.sum([counts for _, counts in found], axis=0)
        rows += [{"variant": variant, "structure": name, **row(counts, c)} for c, name in enumerate(found[0][0], 1)]
    table = pd.DataFrame(rows)
    table.to_csv(out / "round_labels.csv", index=False, float_format="%.1f")
    print(table.round(1).to_string(index=False))
    means = table.groupby("variant", sort=False)["background"].mean()
    print("RESULT", *(f"{variant}={share:.1f}" for variant, share in means.items()))


if __name__ == "__main__":
    main()
