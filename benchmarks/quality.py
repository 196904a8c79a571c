"""How well quality.csv predicts Dice, and its default weights: fitted to validation volumes, judged on another fold's.

    python benchmarks/quality.py DATA OUT --variants mixed,self_training [--folds 0,1] [--draws 0,1]

OUT is that of ``recipe.py``, whose runs are read. Test volumes are not looked at. Prints the weights that are fitted to
all runs, and, of each fold predicted by weights fitted to the others alone: Spearman's rank correlation with the true
Dice, over structures and over volumes, and the mean error, by structure, too. Ends with a RESULT line.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from recipe import BUNDLE, files

from ufc_monai.artifacts.transfer import load_weights
from ufc_monai.quality.known import evidence_of, look_at_labelled, usual_of
from ufc_monai.quality.predict import rank_correlation

SIGNS = ("1", "agreement", "confidence", "fragments", "strange_volume", "strange_place")


def read(data: Path, out: Path, folder: Path) -> pd.DataFrame:
    """Evidence and true Dice of each structure of a run's validation volumes."""
    parser = ConfigParser()
    parser.read_config(files(folder.name.rsplit("_", 2)[0], folder))
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": str(data), "ckpt_dir": str(folder / "models")})
    parser.update({"cache_dir": str(out / "cache"), "split_path": str(out / "split.json"), "pretrained_path": "none"})
    parser.update({"output_dir": str(folder)})
    names = list(parser.get_parsed_content("class_ids"))
    network, infer, cleaning = (parser.get_parsed_content(key) for key in ("network", "train::inferer", "cleaning"))
    load_weights(network, folder / "models")
    volumes = (parser.get_parsed_content(f"quality::{key}") for key in ("training", "validation"))
    learned, held_out = (
        [look_at_labelled(v, network, infer, len(names), "cpu", cleaning) for v in vs] for vs in volumes
    )
    structures = [
        name
        for volume in held_out
        for name, signs, dice in zip(names, volume.seen.signs, volume.dice, strict=True)
        if dice is not None and signs.place.millilitres
    ]
    rows, dice, of = evidence_of(held_out, names, usual_of(learned, names))
    table = pd.DataFrame(rows, columns=list(SIGNS))
    _, fold, draw = folder.name.rsplit("_", 2)
    return table.assign(dice=dice, volume=of, structure=structures, run=folder.name, fold=fold, draw=draw)


def fitted(table: pd.DataFrame) -> np.ndarray:
    """Least squares."""
    return np.linalg.lstsq(table[list(SIGNS)].to_numpy(), table["dice"].to_numpy(), rcond=None)[0]


def main() -> None:
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    for name, default in {"variants": "mixed,self_training", "folds": "0,1", "draws": "0,1"}.items():
        parser.add_argument(f"--{name}", default=default)
    a = parser.parse_args()
    torch.set_num_threads(1)
    data, out = a.data.resolve(), a.out.resolve()
    runs = [
        out / f"{variant}_{fold}_{draw}"
        for variant in a.variants.split(",")
        for fold in a.folds.split(",")
        for draw in a.draws.split(",")
    ]
    table = pd.concat([read(data, out, folder) for folder in runs], ignore_index=True)
    print("weights:", dict(zip(SIGNS, fitted(table).round(3).tolist(), strict=True)))
    for fold in table["fold"].unique():
        others = table["fold"] != fold
        weights = fitted(table[others] if others.any() else table)
        table.loc[~others, "predicted"] = (table.loc[~others, list(SIGNS)].to_numpy() @ weights).clip(0, 1)
    table.to_csv(out / "quality.csv", index=False, float_format="%.4f")
    error = (table["predicted"] - table["dice"]).abs()
    print("mean error:", error.groupby(table["structure"], sort=False).mean().round(3).to_dict())
    scans = table.groupby(["run", "volume"])[["predicted", "dice"]].mean()
    ranks = [rank_correlation(*(rows[key].to_numpy() for key in ("predicted", "dice"))) for rows in (table, scans)]
    print(f"RESULT rank={ranks[0]:.2f} rank_of_scans={ranks[1]:.2f} mean_error={error.mean():.3f} rows={len(table)}")


if __name__ == "__main__":
    main()
