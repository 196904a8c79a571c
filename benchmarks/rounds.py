"""The loop around the training, simulated: which strategy of ``next`` names the volumes that are worth labelling?

    python benchmarks/rounds.py DATA OUT --keys KEYS.json --strategies random,coverage,quality --volumes 2,4,6,8
        [--fold 0] [--draws 3] [--unlabelled self_training] [--jobs 1] [--preset cpu] [--set BUNDLE.KEY=VALUE]

The references of DATA stand in for the annotator. Each strategy begins with the same first volumes of a draw; then the
function behind ``next`` names as many more as the next number asks for. Stage 1 (for the clusters), fine-tuning from
random weights, the test and the masks of the volumes without a label are the bundles' own commands. Volumes of
validation patients choose the weights and calibrate predicted Dice, as in a run. KEYS.json holds keys of the data set:
window, labels, background_labels.

OUT is gone on with, and a set of volumes that two strategies name is trained on once. OUT/rounds.csv has a row a draw,
strategy and number of volumes, with the Dice of the test volumes in percent; OUT/calibration.csv one a set, scan and
structure: predicted beside true Dice of volumes that the network has not seen. Prints tables and a RESULT line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from recipe import ROOT

from ufc_monai.base.bundles import UNET, VAE
from ufc_monai.base.files import read_json, write_json
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands.arguments import override
from ufc_monai.commands.next import choose, predicted_dice
from ufc_monai.commands.run import copy_bundles
from ufc_monai.planning.options import ChainOptions, cluster_configs, keys_of, stage_2_batch, training_configs
from ufc_monai.planning.plan import stage_command
from ufc_monai.planning.stages import BEGUN, COMPLETE, Step
from ufc_monai.quality.predict import rank_correlation
from ufc_monai.report.summary import column_means
from ufc_monai.transforms.save import mask_paths
from ufc_monai.transforms.volume import LoadVolume

SHARED = {"split_path": "split.json", "cache_dir": "cache"}


@dataclass(frozen=True)
class Simulation:
    """What all rounds have in common.

    Attributes:
        options: of the commands; ``folder`` is OUT.
        volumes: labelled, in each round.
        lock: of OUT.
        stop: ends the rounds of other threads.
    """

    options: ChainOptions
    volumes: Sequence[int]
    lock: int
    stop: threading.Event

    def do(self, place: str, bundle: str, configs: Sequence[str], weights: str, **keys: Any) -> None:
        """Run a command of a bundle in OUT, unless it is complete; a training goes on.

        Args:
            place: folder of its results.
            bundle: its name.
            configs: names of its configurations.
            weights: folder of the weights that it writes or reads.
            keys: further keys.
        """
        out, known = self.options.folder, keys_of(self.options.bundles / bundle, configs)
        own = {key: value for key, value in SHARED.items() if key in known}
        own |= {"ckpt_dir": weights, "output_dir": place, **keys}
        step = Step(place, stage_command(self.options, bundle, configs, own), f"{place}/run.json")
        if (state := step.state(out, {})) == COMPLETE:
            return
        (out / place).mkdir(parents=True, exist_ok=True)
        log = out / place / "log.txt"
        with Host(out, self.lock, log, aloud=False) as host:
            if step.run(host, {}, goes_on=state == BEGUN, stop=self.stop):
                raise SystemExit(f"{place} failed, see {log}")

    def clusters(self) -> PseudoLabels:
        """Those of the training volumes."""
        configs = cluster_configs(self.options)
        self.do("stage1/train", VAE, training_configs(self.options, VAE), "stage1/models")
        self.do("stage1/clusters", VAE, configs, "stage1/models", **stage_2_batch(self.options))
        return PseudoLabels.load(self.options.folder / "stage1/clusters/pseudo_labels.json")

    def learn(self, draw: int, images: Sequence[str], pool: Sequence[str]) -> Path:
        """Train on the labels of some images, test, and segment the pool; returns the folder of all of it."""
        name = hashlib.sha256("\n".join(images).encode()).hexdigest()[:8]
        place = f"runs/{self.options.unlabelled}_draw{draw}/{len(images)}_{name}"
        folder, weights = self.options.folder / place, f"{place}/models"
        write_json(folder / "labelled.json", {"chosen": list(images)})
        own = {"label_order_path": f"{place}/labelled.json", "pretrained_path": "none", "seed": draw}
        self.do(f"{place}/train", UNET, training_configs(self.options, UNET), weights, **own)
        self.do(f"{place}/test", UNET, ["train", "evaluate"], weights)
        scans = [{"image": str(self.options.dataset_dir / image)} for image in pool]
        self.do(f"{place}/masks", UNET, ["inference"], weights, **{"dataset::data": scans})
        return folder


def simulate(
    simulation: Simulation, labels: PseudoLabels, draw: int, strategies: Sequence[str]
) -> list[dict[str, Any]]:
    """All rounds of a draw, a row each."""
    options, rows = simulation.options, list[dict[str, Any]]()
    folds = read_json(options.folder / "split.json", "OUT")["folds"]
    order = folds[options.fold]["label_orders"][draw]
    for strategy in strategies:
        images, added, before = order[: simulation.volumes[0]], order[: simulation.volumes[0]], None
        for n, more in zip(simulation.volumes, [*np.diff(simulation.volumes).tolist(), 0], strict=True):
            pool = sorted(set(order).difference(images))
            folder = simulation.learn(draw, sorted(images), pool)
            means = {name: 100 * mean for name, mean in column_means(folder / "test/dice.csv").items()}
            about = {"draw": draw, "strategy": strategy, "volumes": n, "added": " ".join(added), "before": before}
            rows.append({**about, "dice": means.pop("mean"), **means, "folder": str(folder)})
            print(json.dumps(rows[-1]), flush=True)
            if more:
                dice = predicted_dice(folder / "masks/quality.csv")
                added = choose(strategy, labels, images, more, dice, seed=draw).images
                images, before = [*images, *added], 100 * float(np.mean([dice[image] for image in added]))
    return rows


def judged(options: ChainOptions, folder: Path) -> pd.DataFrame:
    """Predicted and true Dice of each structure of a run's masks that the reference holds, on the scans' grids."""
    found, model = folder / "calibration.csv", read_json(folder / "models/network.json", "OUT")["model_sha256"]
    if found.is_file() and (table := pd.read_csv(found))["model_sha256"].eq(model).all():
        return table
    table = pd.read_csv(folder / "masks/quality.csv")[["scan", "structure", "predicted_dice"]].dropna()
    images = read_json(options.folder / "split.json", "OUT")["images"]
    for scan, rows in table.groupby("scan"):
        image = str(options.dataset_dir / str(scan))
        mask = mask_paths([image], folder / "masks", options.dataset_dir)[image]
        label = options.dataset_dir / images[scan]["label"]
        ours, true = (np.asarray(LoadVolume()(path)[0]) for path in (mask, label))
        for k, name in rows["structure"].items():
            p, r = (values == options.keys["labels"][name] for values in (ours, true))
            table.loc[k, "dice"] = 2 * (p & r).sum() / (p.sum() + r.sum()) if r.any() else np.nan
    table = table.dropna().assign(run=folder.relative_to(options.folder).as_posix(), model_sha256=model)
    table.to_csv(found, index=False, float_format="%.4f")
    return table


def show(rounds: pd.DataFrame, calibration: pd.DataFrame) -> None:
    """Print what came out."""
    by = rounds.pivot_table(index="volumes", columns="strategy", values="dice", sort=False)
    print("test Dice, mean of the draws\n", by.round(1).to_string(), sep="")
    first = rounds[rounds["strategy"] == rounds["strategy"].iloc[0]].set_index(["draw", "volumes"])["dice"]
    ahead = rounds.set_index(["draw", "volumes"])["dice"] - first.reindex(rounds.set_index(["draw", "volumes"]).index)
    rounds = rounds.assign(ahead=ahead.to_numpy())
    ahead_of = rounds.pivot_table(index=["volumes", "draw"], columns="strategy", values="ahead", sort=False)
    print(f"ahead of {rounds['strategy'].iloc[0]}, draw by draw\n", ahead_of.round(1).to_string(), sep="")
    error = (calibration["predicted_dice"] - calibration["dice"]).abs()
    means = calibration.assign(error=error).groupby("structure", sort=False)[["predicted_dice", "dice", "error"]].mean()
    print("predicted and true Dice of volumes without a label\n", means.round(3).to_string(), sep="")
    scans = calibration.groupby(["run", "scan"])[["predicted_dice", "dice"]].mean()
    within = [ranked(of_run) for _, of_run in scans.groupby(level="run")]
    dice = [f"{name}={','.join(f'{x:.1f}' for x in column)}" for name, column in by.items()]
    ranks = f"rank={ranked(calibration):.2f} rank_of_scans={ranked(scans):.2f} within_runs={np.nanmean(within):.2f}"
    print(f"RESULT {' '.join(dice)} {ranks} mean_error={error.mean():.3f} runs={len(within)}")


def ranked(table: pd.DataFrame) -> float:
    """Spearman's rank correlation of predicted and true Dice; NaN of too few."""
    found = rank_correlation(table["predicted_dice"].to_numpy(), table["dice"].to_numpy())
    return np.nan if found is None else found


def main() -> None:
    """Simulate what is missing, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keys", type=Path, required=True)
    parser.add_argument("--strategies", default="random,coverage,quality")
    parser.add_argument("--volumes", default="2,4,6,8")
    parser.add_argument("--unlabelled", default="none")
    parser.add_argument("--preset", default="cpu")
    for name, default in {"fold": 0, "draws": 3, "jobs": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--set", type=override, action="append", default=[])
    a = parser.parse_args()
    out, keys = a.out.resolve(), {"threads": 1, "fold": a.fold, **json.loads(a.keys.read_text())}
    overrides: dict[str, dict[str, Any]] = {}
    for bundle, key, value in a.set:
        overrides.setdefault(bundle, {})[key] = value
    more = {"preset": a.preset, "unlabelled": a.unlabelled, "keys": keys, "overrides": overrides}
    options = ChainOptions(a.data.resolve(), out, out, **more)
    with at_work(out / "rounds.lock") as lock, ThreadPoolExecutor(a.jobs) as pool:
        copy_bundles(ROOT / "bundles", out)
        simulation = Simulation(options, [int(n) for n in a.volumes.split(",")], lock, threading.Event())
        labels = simulation.clusters()
        try:
            draws = pool.map(lambda draw: simulate(simulation, labels, draw, a.strategies.split(",")), range(a.draws))
            rounds = pd.DataFrame([row for rows in draws for row in rows])
        except BaseException:
            simulation.stop.set()
            raise
    rounds.to_csv(out / "rounds.csv", index=False, float_format="%.2f")
    folders = map(Path, rounds["folder"].unique())
    calibration = pd.concat([judged(options, folder) for folder in folders], ignore_index=True)
    calibration.to_csv(out / "calibration.csv", index=False, float_format="%.4f")
    show(rounds, calibration)


if __name__ == "__main__":
    main()
