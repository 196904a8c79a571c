"""Recipes of fine-tuning compared on validation volumes, one change at a time; no test patient is looked at.

    python benchmarks/recipe.py DATA OUT --variants today,mixed --jobs 2 [--keys KEYS.json]

Each variant is a small configuration over train.json and cpu.json (VARIANTS below). It is trained from random weights
on two labelled volumes, two folds and two draws, and its last weights are judged on the fold's validation volumes, on
the network's grid, with several ways to clean up behind it. OUT/recipe.csv has a row a run, OUT is gone on with.
KEYS.json holds keys of the data set: window, labels, background_labels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from ufc_monai.artifacts.transfer import load_weights
from ufc_monai.base.bundles import UNET, VAE
from ufc_monai.transforms.clean import keep_largest, smooth_slices

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / UNET
LAST = {"val_interval": 10**6}
"""Validate once, at the end: the last weights are kept, and nothing is chosen by these volumes."""


MIXED_WIDE = {"mixed_augment::rotation": 20, "mixed_augment::field": [0.7, 1.3], "mixed_augment::shift": 0.1}
STILL = {"elastic": 0}
SYMMETRIC = {**STILL, "min_steps": 1500, "missing": 0}
"""Self-training as it was when the guards were tried."""
TODAYS = {"min_steps": 1500}
"""Self-training as it is."""
CLUSTERS = "$guards.clusters_of(@pseudo_labels_path, @joined)"
DEALT_ANEW = f"$guards.dealt_anew({CLUSTERS[1:]})"


def guard(target: str, **arguments: str) -> tuple[list[str], dict[str, Any]]:
    """A variant of self-training as it was by another class, of guards.py; by clusters of today's."""
    changed = {f"self_training::{key}": value for key, value in {"_target_": f"guards.{target}", **arguments}.items()}
    base = TODAYS if "clusters" in arguments else SYMMETRIC
    return ["self_training"], {**base, "+imports": ["$import guards"], **changed}


def partners(clusters: str) -> tuple[list[str], dict[str, Any]]:
    """A variant of self-training that mixes slices of the same cluster."""
    changed = {"train::sampler::_target_": "guards.SameCluster", "train::sampler::clusters": clusters}
    return ["self_training"], {**TODAYS, "+imports": ["$import guards"], **changed}


VARIANTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "today": (["paper"], {"min_steps": 800}),
    "mixed": ([], {**STILL, "min_steps": 1200}),
    "mixed_longer": ([], {"min_steps": 2400}),
    "mixed_wide": ([], {**STILL, **MIXED_WIDE, "min_steps": 1200}),
    "mixed_1600": ([], {**STILL, "min_steps": 1600}),
    "mixed_elastic": ([], {"min_steps": 1200}),
    "mixed_more_elastic": ([], {"elastic": 0.06, "min_steps": 1200}),
    "mixed_most_elastic": ([], {"elastic": 0.09, "min_steps": 1200}),
    "mixed_averaged": (
        [],
        {
            "min_steps": 1200,
            "+imports": ["$import averages"],
            "+train::handlers": [{"_target_": "averages.Averages", "network": "@network", "folder": "@ckpt_dir"}],
        },
    ),
    "mixed_elastic_16": ([], {"batch_size": 16, "min_steps": 1200}),
    "self_elastic": (["self_training"], TODAYS),
    "self_more_elastic": (["self_training"], {"elastic": 0.06, "min_steps": 1500}),
    "self_training": (["self_training"], {**STILL, "min_steps": 1500}),
    "self_sampled": (
        ["self_training"],
        {
            "min_steps": 1500,
            "+imports": ["$import guards"],
            "joined::_target_": "guards.SampledSlices",
            "self_training::_target_": "guards.Sampled",
            "self_training::stage_1": "$os.path.join(os.path.dirname(@pseudo_labels_path), '..')",
        },
    ),
    "self_symmetric": (["self_training"], SYMMETRIC),
    "self_wide": (["self_training"], {**SYMMETRIC, **MIXED_WIDE}),
    "self_longer": (["self_training"], {"min_steps": 2400}),
    "self_later": (["self_training"], {"min_steps": 2400, "warm_up_steps": 1200, "round_steps": 400}),
    "self_each_epoch": (["self_training"], {**TODAYS, "round_steps": 1}),
    "less_of_unstable": guard("LessOfUnstable"),
    "by_position": guard("Plausible"),
    "by_cluster": guard("Plausible", clusters=CLUSTERS),
    "by_cluster_random": guard("Plausible", clusters=DEALT_ANEW),
    "even": guard("Even", clusters=CLUSTERS),
    "even_random": guard("Even", clusters=DEALT_ANEW),
    "partners_cluster": partners(CLUSTERS),
    "partners_cluster_random": partners(DEALT_ANEW),
    "again": guard("Again", beside="$@output_dir.replace('again_', 'self_symmetric_') + '/unlabelled_labels'"),
}
"""A variant: the configurations over train.json and cpu.json, and keys."""


def by_clusters(name: str) -> bool:
    """Whether a variant needs those of stage 1."""
    return "@pseudo_labels_path" in str(VARIANTS[name])


def train(data: Path, out: Path, keys: Mapping[str, Any], name: str, fold: int, draw: int) -> Path:
    """Train a variant in a process of its own, unless it is there; returns its folder."""
    folder = out / f"{name}_{fold}_{draw}"
    if (folder / "seconds.txt").is_file():
        return folder
    config = {**keys, **LAST, **VARIANTS[name][1], "fold": fold, "label_draw": draw, "seed": draw, "threads": 1}
    config |= {"output_dir": str(folder), "ckpt_dir": str(folder / "models"), "pretrained_path": "none"}
    if by_clusters(name):
        config["pseudo_labels_path"] = str(out / f"stage1_{fold}" / "clusters" / "pseudo_labels.json")
    write(folder / "variant.json", data, out, config)
    began = time.monotonic()
    run_bundle(UNET, files(name, folder))
    (folder / "seconds.txt").write_text(f"{time.monotonic() - began:.0f}")
    return folder


def stage_1(data: Path, out: Path, keys: Mapping[str, Any], fold: int) -> None:
    """Features and clusters of a fold's training volumes, unless they are there; they are of no labels."""
    folder = out / f"stage1_{fold}"
    if (folder / "clusters" / "pseudo_labels.json").is_file():
        return
    own = {name: value for name, value in keys.items() if name == "window"}
    own |= {"fold": fold, "threads": 1, "ckpt_dir": str(folder / "models")}
    for stage, configs in (("train", ["train", "cpu"]), ("clusters", ["inference"])):
        write(folder / f"{stage}.json", data, out, {**own, "output_dir": str(folder / stage)})
        own.pop("window", None)  # inference takes the training's
        places = [str(ROOT / "bundles" / VAE / "configs" / f"{name}.json") for name in configs]
        run_bundle(VAE, [*places, str(folder / f"{stage}.json")])


def write(file: Path, data: Path, out: Path, keys: Mapping[str, Any]) -> None:
    """Write the configuration of a run, with what all runs share."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shared = {"dataset_dir": str(data), "cache_dir": str(out / "cache"), "split_path": str(out / "split.json")}
    file.write_text(json.dumps({**shared, **keys}, indent=1))


def run_bundle(bundle: str, configs: Sequence[str]) -> None:
    """Run a bundle in a process of its own; what it prints goes into log.txt beside the last configuration."""
    words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(list(configs))]
    words += ["--bundle_root", str(ROOT / "bundles" / bundle)]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "benchmarks")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    with open(Path(configs[-1]).parent / "log.txt", "a") as log:
        subprocess.run(words, stdout=log, stderr=log, check=True, env=environment)


def files(name: str, folder: Path) -> list[str]:
    """The configurations of a run, in the order in which they are laid over each other."""
    configs = [BUNDLE / "configs" / f"{config}.json" for config in ("train", "cpu", *VARIANTS[name][0])]
    return [str(file) for file in (*configs, folder / "variant.json")]


@torch.inference_mode()
def judge(folder: Path) -> dict[str, Any]:
    """Dice of a run's last weights on its validation volumes, by ways of cleaning up."""
    parser = ConfigParser()
    parser.read_config(files(folder.name.rsplit("_", 2)[0], folder))
    parser.update({"bundle_root": str(BUNDLE)})
    content = {name: parser.get_parsed_content(name) for name in ("network", "validate::dataset", "validate::inferer")}
    network, volumes, inferer = content.values()
    names = list(parser.get_parsed_content("class_ids"))
    kept = parser.get_parsed_content("train::dataset").connected_classes(len(names) + 1)
    scores: dict[str, list[list[float]]] = {}
    for weights in (folder / "models", *sorted(folder.glob("models/average/*"))):
        load_weights(network, weights)
        network.eval()
        of = "" if weights.name == "models" else f"{weights.name} "
        for item in volumes:
            label = np.asarray(item["label"][0]).astype(np.int64)
            logits = inferer(item["image"][None], network)[0].as_tensor()
            for way, slices in (("raw", 1), ("smooth", 3)):
                found = smooth_slices(logits.clone(), slices)
                for name, scored in ((way, found.clone()), (f"{way} clean", keep_largest(found, kept))):
                    scores.setdefault(of + name, []).append(dice(scored.argmax(0).numpy(), label, len(names)))
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    row = {"steps": last["iteration"], "seconds": int((folder / "seconds.txt").read_text()), "loss": last["loss"]}
    row |= {way: 100 * float(np.nanmean(np.nanmean(values, axis=1))) for way, values in scores.items()}
    best = np.nanmean(scores["smooth clean"], axis=0)
    return row | {"cleaned": " ".join(names[i - 1] for i in kept)} | dict(zip(names, 100 * best, strict=True))


def dice(found: NDArray[Any], label: NDArray[Any], n: int) -> list[float]:
    """Dice of each class of a volume; NaN where the label does not hold it."""
    masks = ((found == i, (label == i)) for i in range(1, n + 1))
    return [2 * (p & r).sum() / (p.sum() + r.sum()) if r.any() else np.nan for p, r in masks]


def main() -> None:
    """Run what is missing of the chosen variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--folds", default="0,1")
    parser.add_argument("--draws", default="0,1")
    parser.add_argument("--volumes", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keys", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    data, out = a.data.resolve(), a.out.resolve()
    keys = {"labelled_volumes": a.volumes, **(json.loads(a.keys.read_text()) if a.keys else {})}
    runs = [(v, int(f), int(d)) for v in a.variants.split(",") for f in a.folds.split(",") for d in a.draws.split(",")]

    for fold in {f for v, f, _ in runs if by_clusters(v)}:
        stage_1(data, out, keys, fold)

    def one(run: tuple[str, int, int]) -> dict[str, Any]:
        folder = train(data, out, keys, *run)
        found = folder / "scores.json"
        if not found.is_file():
            found.write_text(json.dumps(judge(folder)))
        row = dict(zip(("variant", "fold", "draw"), run, strict=True)) | json.loads(found.read_text())
        print(row, flush=True)
        return row

    with ThreadPoolExecutor(a.jobs) as pool:
        table = pd.DataFrame(list(pool.map(one, runs)))
    table.to_csv(out / "recipe.csv", index=False, float_format="%.2f")
    means = table.groupby("variant", sort=False).mean(numeric_only=True).drop(columns=["fold", "draw"]).round(1)
    print(means.T.to_string())
    print("RESULT", *(f"{variant}={dice}" for variant, dice in means["smooth clean"].items()))


if __name__ == "__main__":
    main()
