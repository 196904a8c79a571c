"""The demo: three bundles, one after the other, on synthetic patients, started as a user would start them."""

from __future__ import annotations

import csv
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ufc_monai.data import make_phantom
from ufc_monai.errors import InputError
from ufc_monai.files import read_json

__all__ = ["Stage", "demo_stages", "dice_table", "run_demo"]

logger = logging.getLogger(__name__)

BUNDLES = ("ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation")
LABELLED = 2
QUICK = {"ufc_feature_vae": "--epochs 40", "ufc_cluster_contrastive": "--epochs 40", "ufc_unet_segmentation": ""}
"""What the demo changes in cpu.json: it has ten times fewer slices than a small data set."""
ARMS = {"random": "random initialisation", "pretrained": "pretrained encoder"}


@dataclass(frozen=True)
class Stage:
    """One command of the demo.

    Attributes:
        title: what it does.
        command: its words, for a shell in the demo's folder.
        record: the ``run.json`` that says when it is complete.
    """

    title: str
    command: tuple[str, ...]
    record: str


def run_demo(folder: str | os.PathLike[str], bundles: str | os.PathLike[str], patients: int = 12) -> None:
    """Make patients, run the stages that are not complete, print the table.

    Args:
        folder: where everything goes. Run again with the same folder, complete stages are skipped.
        bundles: the folder of the three bundles; they are copied, and stay as they are.
        patients: synthetic patients, 4 or more so that some can be held out.

    Raises:
        InputError: if a bundle is missing, there are too few patients, or a stage fails.
    """
    began = time.monotonic()
    folder = Path(folder)
    if patients < 8:
        raise InputError(f"--patients must be 8 or more, so that each fold trains on 4; got {patients}.")
    _copy_bundles(Path(bundles), folder)
    data = folder / "data"
    if len(list(data.glob("*_image.nii.gz"))) != patients:
        logger.info("making %d synthetic whole-heart CT patients in %s", patients, data)
        shutil.rmtree(data, ignore_errors=True)
        make_phantom(data, patients=patients)
    skipping = True
    for stage in demo_stages():
        skipping = skipping and _complete(folder, stage)
        logger.info("\n# %s%s\n%s", stage.title, " (complete, skipped)" if skipping else "", _shown(stage.command))
        if not skipping:
            _run(stage, folder)
    logger.info("\n%s", dice_table({ARMS[arm]: folder / arm / "eval" / "dice.csv" for arm in ARMS}))
    logger.info(
        "%d labelled volumes, same labels, steps and seed in both columns. A demo this short shows the machinery, not "
        "the method's gain: differences of a few points are noise. %.0f s in all.",
        LABELLED,
        time.monotonic() - began,
    )


def demo_stages() -> list[Stage]:
    """The demo's commands, in order."""
    stages = [
        _stage("stage 1: train the beta-VAE", BUNDLES[0], ["train", "cpu"], "eval/train"),
        _stage("stage 1: features and clusters", BUNDLES[0], ["inference"], "eval/inference"),
        _stage("stage 2: contrastive pretraining", BUNDLES[1], ["train", "cpu"], "eval/train"),
    ]
    for arm, title in ARMS.items():
        place = f"--ckpt_dir {arm}/models --output_dir {arm}"
        start = "--pretrained_path none " if arm == "random" else ""
        stages += [
            _stage(
                f"stage 3: fine-tune, {title}",
                BUNDLES[2],
                ["train", "cpu"],
                f"{arm}/train",
                f"{start}--labelled_volumes {LABELLED} {place}/train",
            ),
            _stage(f"stage 3: test, {title}", BUNDLES[2], ["train", "evaluate"], f"{arm}/eval", f"{place}/eval"),
        ]
    return stages


def dice_table(files: dict[str, Path]) -> str:
    """Mean Dice per structure and over volumes, one column a file, as text.

    Args:
        files: the ``dice.csv`` of each column, by its title.
    """
    means = {title: _column_means(path) for title, path in files.items()}
    rows = list(next(iter(means.values())))
    width = max(len(row) for row in rows)
    lines = [f"{'Dice':<{width}}" + "".join(f"  {title:>{max(12, len(title))}}" for title in means)]
    for row in [*rows[1:], rows[0]]:
        cells = [f"{column[row]:.3f}" if row in column else "-" for column in means.values()]
        lines.append(
            f"{row:<{width}}" + "".join(f"  {c:>{max(12, len(t))}}" for c, t in zip(cells, means, strict=True))
        )
    return "\n".join(lines)


def _stage(title: str, bundle: str, configs: Sequence[str], record: str, overrides: str = "") -> Stage:
    files = [f"{bundle}/configs/{config}.json" for config in configs]
    command = [
        *("python", "-m", "monai.bundle", "run"),
        *("--config_file", files[0] if len(files) == 1 else str(files).replace(" ", "")),
        *("--bundle_root", bundle, "--dataset_dir", "data"),
        *shlex.split(QUICK[bundle] if "cpu" in configs else ""),
        *shlex.split(overrides),
    ]
    place = record if overrides else f"{bundle}/{record}"
    return Stage(title, tuple(command), f"{place}/run.json")


def _shown(command: Sequence[str]) -> str:
    """A command as one would type it; lists hold single quotes and stand in double ones."""
    return " ".join(f'"{word}"' if "'" in word else shlex.quote(word) for word in command)


def _copy_bundles(bundles: Path, folder: Path) -> None:
    for name in BUNDLES:
        if not (bundles / name / "configs" / "train.json").is_file():
            raise InputError(f"--bundles: there is no bundle {bundles / name}. Run from the repository's folder.")
        for part in ("configs", "docs"):
            shutil.copytree(bundles / name / part, folder / name / part, dirs_exist_ok=True)


def _complete(folder: Path, stage: Stage) -> bool:
    record = folder / stage.record
    if not record.is_file():
        return False
    content = read_json(record, "--folder")
    # argv[0] is the path of monai.bundle's file, the rest is what was typed
    return content.get("status") == "complete" and content["command"][1:] == list(stage.command[3:])


def _run(stage: Stage, folder: Path) -> None:
    words = [sys.executable, "-W", "ignore::UserWarning", *stage.command[1:]]
    (folder / stage.record).unlink(missing_ok=True)
    # waiting threads that spin make two busy processes slow each other many times over
    patient = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    code = subprocess.run(words, cwd=folder, env=patient, check=False).returncode
    if code:
        raise InputError(f"'{stage.title}' ended with exit code {code}; its message stands above.")


def _column_means(path: Path) -> dict[str, float]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name != "volume"]
    values = {name: [float(row[name]) for row in rows if row[name]] for name in columns}
    return {name: sum(v) / len(v) for name, v in values.items() if v}
