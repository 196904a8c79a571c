"""Does the contrastive auto-encoder guide stage 2 better? UFC with its clusters, the VAE's, raw pixels', random.

    python benchmarks/guidance.py DATA OUT [--keys KEYS.json] [--seeds 3] [--volumes 2] [--k 16] [--preset cpu]

Two studies of one split, fold 0: OUT/contrastive_ae (random weights, UFC with the prototypes' clusters, UFC with these
dealt out at random) and OUT/vae (UFC with the VAE's clusters, UFC with k-means on raw pixels, ``--k`` of them). Seed s
of both has the labels of draw s. The table has the linear probe's AUC, the share of false negatives among the pairs
that are pushed apart, and the test's Dice; the difference from random weights is paired by patient and draw. KEYS.json
holds keys of the data set: window, labels, background_labels. OUT is gone on with, as a study is.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from ufc_monai.artifacts.pseudo_label import thumbnails_of
from ufc_monai.base.bundles import VAE
from ufc_monai.base.files import write_json
from ufc_monai.clustering.quality import raw_pixels
from ufc_monai.clustering.space import centre_per_patient
from ufc_monai.data.slices import SliceDataset

ROOT = Path(__file__).parents[1]
PIXELS = {
    "output_dir": "$os.path.join(@bundle_root, 'eval', 'pixels')",
    "clustering": {"_target_": "guidance.PixelClusters", "dataset": "@dataset", "n_clusters": "@n_clusters"},
}
"""The configuration of stage 1 that ``--clusterings pixels:16`` names."""


class PixelClusters:
    """K-means on small pictures of the slices, centred per patient like the VAE's features, which are not looked at."""

    def __init__(self, dataset: SliceDataset, n_clusters: int) -> None:
        self.dataset, self.n_clusters = dataset, n_clusters

    def fit(self, features: NDArray[np.float64]) -> PixelClusters:
        """Group the data set's slices, whose features (n, d) are."""
        pixels, _ = centre_per_patient(
            raw_pixels(thumbnails_of(self.dataset)), [item["patient"] for item in self.dataset.items]
        )
        self.labels_ = KMeans(self.n_clusters, n_init=4, random_state=0).fit(pixels).labels_
        return self


def study(a: argparse.Namespace, name: str, methods: str, *more: str) -> pd.DataFrame:
    """Run a study, or what is missing of it; a row each of its arms, patients and draws."""
    folder, keys = a.out / name, json.loads(a.keys.read_text()) if a.keys else {}
    words = [sys.executable, "-m", "ufc_monai", "study", "--dataset_dir", str(a.data), "--folder", str(folder)]
    words += ["--bundles", str(a.out / "bundles"), "--methods", methods, "--budgets", str(a.volumes), "--folds", "1"]
    words += ["--seeds", str(a.seeds), "--init_seeds", "1", "--preset", a.preset, "--threads", "1", *more]
    words += [word for key, value in keys.items() for word in (f"--{key}", str(value))]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks")))
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": path})
    rows = pd.read_csv(folder / "study.csv").groupby(["method", "patient", "label_draw"], sort=False)["dice"].mean()
    found = rows.reset_index().assign(arm=lambda table: f"{name}: " + table["method"])
    for arm in found["method"].unique():
        probes = [read(path) for path in folder.glob(f"runs/fold0/{arm}/seed*/probe/probe.json")]
        for figure in ("auc", "false_negatives"):
            values = [value for probe in probes if (value := probe[figure]) is not None]
            found.loc[found["method"] == arm, figure] = np.mean(values) if values else np.nan
    return found


def read(path: Path) -> Mapping[str, float | None]:
    """The figures of a ``probe.json``."""
    probe: dict[str, Any] = json.loads(path.read_text())
    ufc = probe["false_negatives"].get("ufc") or {}
    return {"auc": probe["mean"]["pretrained"], "false_negatives": ufc.get("false_negatives")}


def main() -> None:
    """Run both studies, print the table and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", type=Path)
    for name, default in (("--seeds", 3), ("--volumes", 2), ("--k", 16)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--preset", default="cpu")
    a = parser.parse_args()
    a.data, a.out = a.data.resolve(), a.out.resolve()
    shutil.copytree(ROOT / "bundles", a.out / "bundles", dirs_exist_ok=True)
    write_json(a.out / "bundles" / VAE / "configs" / "pixels.json", PIXELS)
    parts = [
        study(a, "contrastive_ae", "random,ufc,ufc_random_clusters", "--features", "contrastive_ae"),
        study(a, "vae", "ufc", "--clusterings", f"pixels:{a.k}"),
    ]
    table = pd.concat(parts)
    dice = table.pivot(index=["patient", "label_draw"], columns="arm", values="dice")
    gain = dice.sub(dice["contrastive_ae: random"], axis=0)
    shown = table.groupby("arm", sort=False)[["auc", "false_negatives", "dice"]].mean()
    shown["gain"], shown["draws better"] = gain.mean(), (gain.groupby("label_draw").mean() > 0).sum()
    shown.to_csv(a.out / "guidance.csv", float_format="%.4f")
    print(shown.round(3).to_string())
    keys = [arm.replace(": ", "_") for arm in shown.index]
    print("RESULT " + " ".join(f"{key}_dice={v:.2f}" for key, v in zip(keys, shown["dice"], strict=True)))


if __name__ == "__main__":
    main()
