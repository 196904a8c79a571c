"""Every method of stage 2 on one data set: how long an epoch takes, what its encoder is like, and the Dice after it.

    python benchmarks/variants.py --dataset_dir DIR --folder OUT [--window ...] [--labels ...] [--methods simclr ...]

Trains stage 1 once, then pretrains an encoder with each method (cpu.json and the method's file), probes it, fine-tunes
from it on ``--labelled`` volumes and tests; data, split, labels, steps and seed are the same for all. What is complete
under ``--folder`` is not run again, so that several processes can share it with a list of methods each. Seconds are
those of the quickest epoch, for other work on the machine only ever adds. One seed and one draw of labels: differences
of a few points of Dice are noise (docs/results.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE, laid_over, methods
from ufc_monai.planning.stages import RESUME

BUNDLES = Path(__file__).parents[1] / "bundles"
METHODS = methods(BUNDLES)


class Study:
    """The runs of one folder.

    Args:
        folder: where they go.
        data: keys that every stage with labels needs; ``labels`` and the like are left out elsewhere.
        labelled: volumes to fine-tune on.
    """

    def __init__(self, folder: Path, data: Mapping[str, Any], labels: Mapping[str, Any], labelled: int) -> None:
        self.folder = folder
        self.data = dict(data)
        self.labels = dict(labels)
        self.labelled = labelled
        for name in (VAE, CONTRASTIVE, UNET):
            shutil.copytree(BUNDLES / name / "configs", folder / name / "configs", dirs_exist_ok=True)

    def run(self, bundle: str, configs: str, output_dir: Path, **keys: Any) -> None:
        """Run a bundle unless its record says that it has run."""
        record = output_dir / "run.json"
        if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["status"] == "complete":
            return
        files = [str(self.folder / bundle / "configs" / f"{config}.json") for config in configs.split("+")]
        words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
        for key, value in {"bundle_root": self.folder / bundle, "output_dir": output_dir, **keys}.items():
            words += [f"--{key}", str(value)]
        if configs.startswith("train") and "evaluate" not in configs:
            words += RESUME
        log = output_dir.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"{output_dir.relative_to(self.folder)} ...", flush=True)
        with open(log, "w", encoding="utf-8") as file:
            if subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, check=False).returncode:
                raise SystemExit(f"it failed, see {log}")

    def stage_1(self) -> None:
        """Features and clusters, for all methods."""
        self.run(VAE, "train+cpu", self.folder / VAE / "eval" / "train", **self.data)
        known = {key: value for key, value in self.data.items() if key != "window"}
        self.run(VAE, "inference", self.folder / VAE / "eval" / "inference", **known)

    def method(self, method: str) -> None:
        """Pretrain, probe, fine-tune, test."""
        place = self.folder / "methods" / method
        models, known = place / "pretrained", {key: value for key, value in self.data.items() if key != "window"}
        pretrained: Path | str = models / "model.pt"
        where = {"ckpt_dir": models, **self.data}
        if method == "random":
            pretrained = "none"
        elif method == "vae_init":
            self.run(VAE, "train+unet_encoder+cpu", place / "pretraining", **where)
        else:
            self.run(CONTRASTIVE, "+".join(["train", "cpu", *laid_over(method)]), place / "pretraining", **where)
            self.run(CONTRASTIVE, "probe", place / "probe", ckpt_dir=models, **known, **self.labels)
        tuned = {"ckpt_dir": place / "fine_tuned", "pretrained_path": pretrained, "labelled_volumes": self.labelled}
        self.run(UNET, "train+cpu", place / "fine_tuning", **tuned, **self.data, **self.labels)
        self.run(UNET, "train+evaluate", place / "test", ckpt_dir=place / "fine_tuned", **known)

    def row(self, method: str) -> dict[str, float]:
        """The figures of a method."""
        place, figures = self.folder / "methods" / method, {}
        if (place / "pretraining" / "metrics.jsonl").is_file():
            lines = (place / "pretraining" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            epochs = [json.loads(line) for line in lines]
            figures["seconds"] = min(epoch["seconds"] for epoch in epochs)
        if (place / "probe" / "probe.json").is_file():
            figures["effective_rank"] = epochs[-1]["effective_rank"]
            probe = json.loads((place / "probe" / "probe.json").read_text(encoding="utf-8"))
            figures["probe"] = probe["mean"]["pretrained"]
        with open(place / "test" / "dice.csv", newline="", encoding="utf-8") as file:
            figures["dice"] = 100 * mean(float(row["mean"]) for row in csv.DictReader(file))
        return figures


def main() -> None:
    """Run the methods and print a Markdown table and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=Path)
    parser.add_argument("--folder", required=True, type=Path, help="where the runs go, and are found again")
    parser.add_argument("--methods", nargs="+", default=["random", "vae_init", *METHODS, "moco+ufc"])
    parser.add_argument("--labelled", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--window")
    parser.add_argument("--labels")
    parser.add_argument("--background_labels")
    options = parser.parse_args()
    data: dict[str, Any] = {"dataset_dir": options.dataset_dir.resolve(), "threads": options.threads}
    data |= {"cache_dir": options.folder.resolve() / "cache"} | ({"window": options.window} if options.window else {})
    labels = {key: getattr(options, key) for key in ("labels", "background_labels") if getattr(options, key)}
    study = Study(options.folder.resolve(), data, labels, options.labelled)
    study.stage_1()
    results = []
    table = ["| method | s per epoch | effective rank | probe AUC | Dice |", "|---|---|---|---|---|"]
    for method in options.methods:
        study.method(method)
        row = study.row(method)
        shown = [f"{row[k]:.{n}f}" if k in row else "-" for k, n in FORMATS.items()]
        table.append(f"| {method} | {' | '.join(shown)} |")
        results += [f"{method}_{key}={value:.4g}" for key, value in row.items()]
    print("\n".join(table))
    print("RESULT " + " ".join(results))


FORMATS = {"seconds": 1, "effective_rank": 1, "probe": 3, "dice": 1}
"""The columns of the table and their decimals."""


if __name__ == "__main__":
    main()
