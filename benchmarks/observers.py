"""Do clusters of the contrastive auto-encoder say what observers say, as well as a supervised classifier does?

    python benchmarks/observers.py OUT --data digits btcv=DIR isic=DIR jsrt=DIR [--seeds 0,1,2] [--steps 400]

Of each data set and seed three runs of the package, as far as the contrastive encoder: contrastive_ae with UFC behind
it, contrastive_vae, and our VAE with SimCLR behind it. The split is the same for all seeds. Then ``agreement`` by the
rules of the data set, beside the most frequent class, k-means on pixels and principal components, and the supervised
baselines. The small preset on slices of 64 x 64 (digits 32 x 32), DATA below. An auto-encoder has ``--steps``, in each
of its phases; stage 2 half as many; a supervised baseline ``--supervised``.

- digits: scikit-learn's 1,797, ten clusters; a quarter is judged, whose labels, not pictures, are unknown.
- btcv: level, the rarest of the organs that a slice shows; dominant, the largest. Eight organs.
- isic: thirds of the lesion's area. jsrt: thirds of the lungs' area.

Each finished part is a file: OUT is gone on with. Behind the tables it says how often the prototype of the largest dot
product is not the nearest one, and how alike seeds are: the ARI of groups of patients or, where each has one picture,
of clusters. Figures are means over seeds, intervals the means of their ends.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.chain import CLUSTERS, FEATURES, LABELS, PRETRAINING, VAE_TRAINING
from ufc_monai.base.files import read_arrays
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands.agreement import PLACE, agreement
from ufc_monai.commands.run import copy_bundles, run_stages
from ufc_monai.evaluation.published import Published
from ufc_monai.planning.options import RunOptions, usable_cases
from ufc_monai.planning.plan import plan_stages

ROOT = Path(__file__).parents[1]
ORGANS = {"spleen": 1, "right kidney": 2, "left kidney": 3, "liver": 6, "stomach": 7, "aorta": 8, "ivc": 9}
PICTURES = {"window": [0, 255]}


@dataclass(frozen=True)
class DataSet:
    """How a data set is run and judged: rules of ``agreement``, structures of its masks, preset and keys."""

    rules: Sequence[str]
    labels: Mapping[str, int] = field(default_factory=dict)
    background: Sequence[int] = ()
    preset: str = "cpu"
    keys: Mapping[str, Any] = field(default_factory=dict)


DATA = {
    "digits": DataSet(["labels.csv"], keys={**PICTURES, "image_size": 32, "n_clusters": 10}),
    "btcv": DataSet(
        ["level", "dominant"], {**ORGANS, "pancreas": 11}, [4, 5, 10, 12, 13], keys={"window": [-125, 275]}
    ),
    "isic": DataSet(["area"], {"lesion": 255}, preset="isic+cpu"),
    "jsrt": DataSet(["area"], {"left lung": 150, "right lung": 200}, [250], keys=PICTURES),
}
RUNS: dict[str, tuple[str | None, str | None]] = {
    "contrastive_ae": ("contrastive_ae", None),
    "contrastive_vae": ("contrastive_vae", None),
    "vae_and_simclr": (None, "simclr"),
}
"""Configurations over stage 1 and over stage 2; the first run is the one that is compared with the others."""
CONTRASTED = ("contrastive_ae", "contrastive_vae")


def write_digits(folder: Path) -> Path:
    """Scikit-learn's digits as pictures of 32 x 32, and ``labels.csv``."""
    if not (table := folder / "labels.csv").is_file():
        digits = load_digits()
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for i, image in enumerate(digits.images):
            Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((32, 32)).save(folder / f"images/d{i:04}.png")
        rows = [f"images/d{i:04}.png,{label}" for i, label in enumerate(digits.target)]
        table.write_text("\n".join(["image,label", *rows]))
    return folder


def train(name: str, data: Path, folder: Path, seed: int, a: argparse.Namespace) -> None:
    """Run stages 1 and 2 of a data set's three runs, as far as they are not complete."""
    known = DATA[name]
    for run, (features, method) in RUNS.items():
        options = RunOptions(
            dataset_dir=data,
            folder=folder / run,
            bundles=ROOT / "bundles",
            preset=known.preset,
            features=features,
            method=method,
            estimate=False,
            keys={**known.keys, "seed": seed, "threads": 1, "device": a.device},
            overrides={VAE: course(a.steps), CONTRASTIVE: course(a.steps // 2)},
        )
        cases = usable_cases(options)
        wanted = {VAE_TRAINING.title, CLUSTERS.title, *([] if run == "contrastive_vae" else [PRETRAINING.title])}
        copy_bundles(options.bundles, options.folder)
        if known.labels:  # stage 3, which would say what the masks hold, does not run
            path = options.folder / UNET / "configs" / "train.json"
            structures = {"labels": dict(known.labels), "background_labels": list(known.background)}
            path.write_text(json.dumps(json.loads(path.read_text()) | structures))
        run_stages(options, cases, [step for step in plan_stages(options, cases) if step.title in wanted])


def course(steps: int) -> dict[str, int]:
    """The keys of a training of so many steps, rounded up to whole epochs."""
    return {"epochs": 1, "min_steps": steps}


def judge(name: str, data: Path, folder: Path, a: argparse.Namespace) -> None:
    """Compare a data set's runs with its labels, as far as that is missing."""
    first, *others = RUNS
    for rule in DATA[name].rules:
        target = folder / f"{Path(rule).stem}.csv"
        if not target.is_file():
            labels = str(data / rule) if rule.endswith(".csv") else rule
            beside, keys = [str(folder / other) for other in others], {"threads": 1, "device": a.device}
            agreement(folder / first, labels, dataset_dir=data, beside=beside, steps=a.supervised, keys=keys)
            for path in (folder / first / PLACE).iterdir():
                shutil.move(path, target.with_suffix(path.suffix))


def not_nearest(run: Path) -> float:
    """The share of a run's slices that the dot product gives another prototype than the nearest, in percent."""
    codes = read_arrays(run / FEATURES, "features")["features"]
    network = Published.open(run, VAE, "cpu").network
    prototypes: Any = network.prototypes
    z = torch.from_numpy(codes)
    return 100 * float((prototypes.scores(z).argmax(dim=1) != prototypes.nearest(z)).float().mean())


def groups(run: Path) -> Sequence[int]:
    """The group of each of a run's patients or, where each has one picture, the cluster of each."""
    table = run / CLUSTERS.place / "patients.csv"
    if table.is_file():
        return [int(group) for group in pd.read_csv(table)["group"]]
    clusters = PseudoLabels.load(run / LABELS).clusters
    return [clusters[image][0] for image in sorted(clusters)]


def alike(runs: Sequence[Path]) -> float:
    """The mean ARI of all pairs of seeds; NaN where there is one."""
    found = [groups(run) for run in runs]
    return float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(found, 2)])) if found[1:] else np.nan


def summary(out: Path, names: Sequence[str], seeds: Sequence[int]) -> str:
    """Print the tables; returns the RESULT line."""
    result = []
    for name in names:
        folders = [out / f"{name}_{seed}" for seed in seeds]
        for rule in DATA[name].rules:
            what = f"{name}_{Path(rule).stem}"
            table = compared([pd.read_csv(folder / f"{Path(rule).stem}.csv") for folder in folders])
            table.to_csv(out / f"{what}.csv", float_format="%.4f")
            shown = [column for column in table if "accuracy" in column or not column.endswith(("_low", "_high"))]
            print(f"\n{what}, {len(seeds)} seeds\n{table[shown].dropna(axis=1, how='all').round(3).to_string()}")
            keys = (re.sub(r"\W+", "_", method) for method in table.index)
            result += [f"{what}_{key}={accuracy:.3f}" for key, accuracy in zip(keys, table["accuracy"], strict=True)]
        for run in RUNS:
            ari = alike([folder / run for folder in folders])
            print(f"{name}, {run}: ARI of {len(seeds)} seeds {ari:.3f}")
            result.append(f"{name}_{run}_seeds_ari={ari:.3f}")
        for run in CONTRASTED:
            share = np.mean([not_nearest(folder / run) for folder in folders])
            print(f"{name}, {run}: the largest dot product is not that of the nearest prototype in {share:.1f} %")
            result.append(f"{name}_{run}_not_nearest={share:.1f}")
    return "RESULT " + " ".join(result)


def compared(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of each method's measures over the tables of several seeds, and the range of its accuracy."""
    rows = pd.concat(tables).assign(method=lambda table: table["method"].map(plain)).groupby("method", sort=False)
    least, most = rows["accuracy"].min(), rows["accuracy"].max()
    found = rows.mean()
    found.insert(3, "accuracy_of_seeds", [f"{a:.3f} to {b:.3f}" for a, b in zip(least, most, strict=True)])
    return found


def plain(method: str) -> str:
    """The name of a method without what may differ between seeds: how new slices are assigned, number of components."""
    return method.partition(", new slices")[0].lstrip("0123456789 ")


def main() -> None:
    """Do what is missing, then print the tables and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", nargs="+", default=["digits"], metavar="NAME=DIR")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--supervised", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    a = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    torch.set_num_threads(1)
    os.environ["PYTHONPATH"] = str(ROOT)  # of the stages, which run in folders of their own
    places = dict(item.partition("=")[::2] for item in a.data)
    if unknown := places.keys() - DATA.keys():
        parser.error(f"--data: unknown {min(unknown)}; expected {', '.join(DATA)}")
    seeds = [int(seed) for seed in a.seeds.split(",")]
    for seed in seeds:
        for name, place in places.items():
            data = Path(place).resolve() if place else write_digits(a.out.resolve() / "digits")
            folder = a.out / f"{name}_{seed}"
            train(name, data, folder, seed, a)
            judge(name, data, folder, a)
            print(f"done: {name}, seed {seed}", flush=True)
    print(summary(a.out, list(places), seeds))


if __name__ == "__main__":
    main()
