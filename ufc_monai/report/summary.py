"""What a run found, in a few lines of text."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.chain import (
    ALONE_FINE_TUNING,
    ARMS,
    FINE_TUNING,
    MASKS,
    PRETRAINING,
    QUALITY,
    RANDOM_FINE_TUNING,
    UNET_WEIGHTS,
    record_of,
    standing_record,
)
from ufc_monai.base.tables import read_table
from ufc_monai.report.page import aligned, counted
from ufc_monai.report.quality import quality_text, read_quality

OWN = next(arm for arm, (training, _) in ARMS.items() if training is FINE_TUNING)
"""The arm that is no control."""
CHANGES = {"random initialisation": "pretrained - random", "labelled scans alone": "what the unlabelled scans changed"}
"""What a control tells, by its arm."""
METHODS = {"simclr": "SimCLR, MoCo", "glcl": "GLCL", "pcl": "PCL", "ufc": "UFC, these clusters"}
PAIRS_HEAD = ("method", "pairs pushed apart", "of these, alike: false negatives", "of those drawn together, alike")
PAIRS_MEAN = (
    "Two slices are alike if they show the same structures. Pushing alike slices apart teaches the encoder that the "
    "same anatomy is different: fewer false negatives are better, as long as enough pairs are left to push apart."
)


def run_summary(folder: Path) -> str:
    """Where the masks are, the Dice table and what to make of it, and what was learned on the way.

    Args:
        folder: of the run.
    """
    made = standing_record(folder, MASKS).get("results", {})
    masks = made.get("volumes", 0)  # the folder may also hold those of an earlier data set or fold
    lines = [f"masks of {counted(masks, 'unlabelled volume')}: {folder / MASKS.place}"] if masks else []
    for arm, (_, test) in ARMS.items():
        tested = int(standing_record(folder, test).get("environment", {}).get("test_volumes", 0))
        lines += [f"masks of {counted(tested, 'test volume')}, {arm}: {folder / test.place}"] if tested else []
    command = f"python -m ufc_monai segment --weights {shlex.quote(str(folder))} IN OUT"
    lines += [f"segment new scans: {command}"] if (folder / UNET_WEIGHTS[0]).is_file() else []
    lines += [quality_text(read_quality(folder / QUALITY), made["quality"])] if made.get("quality") else []
    tables = dice_files(folder)
    lines += [dice_table(tables), judgement(folder)] if tables else []
    learned = standing_record(folder, FINE_TUNING).get("results", {}).get("self_training")
    lines += [f"self-training on the unlabelled scans: {learned}"] if learned else []
    verdict = standing_record(folder, PRETRAINING).get("results", {}).get("verdict")
    lines += [f"pretraining, by its own loss: {verdict}"] if verdict else []
    return "\n".join(lines)


def dice_files(folder: Path) -> dict[str, Path]:
    """The ``dice.csv`` of each start of fine-tuning whose test is complete and up to date, by its title.

    One without any Dice, where no reference held a structure, is left out.
    """
    tables = {arm: folder / test.outputs[0] for arm, (_, test) in ARMS.items() if standing_record(folder, test)}
    return {arm: path for arm, path in tables.items() if path.is_file() and "mean" in column_means(path)}


def dice_table(files: Mapping[str, Path]) -> str:
    """Mean Dice per structure and over volumes, one column a file, as text.

    Args:
        files: the ``dice.csv`` of each column, by its title.
    """
    means = {title: column_means(path) for title, path in files.items()}
    first, *others = next(iter(means.values()))
    rows = [[n, *(f"{column[n]:.3f}" if n in column else "-" for column in means.values())] for n in (*others, first)]
    return aligned([["Dice", *means], *rows])


def column_means(path: Path) -> dict[str, float]:
    """The mean of each column of a ``dice.csv`` over the volumes that have a value there."""
    rows = read_table(path)
    columns = [name for name in rows[0] if name != "volume"] if rows else []
    values = {name: [float(row[name]) for row in rows if row[name]] for name in columns}
    return {name: sum(v) / len(v) for name, v in values.items() if v}


def judgement(folder: Path) -> str:
    """One sentence on the Dice of a run: the comparison, or why there is none."""
    tables = dice_files(folder)
    results = {arm: standing_record(folder, ARMS[arm][0]).get("results", {}) for arm in tables}
    stuck = {arm: found.get("not_converged", []) for arm, found in results.items()}
    if any(stuck.values()):
        named = "; ".join(f"{arm}: {', '.join(names)}" for arm, names in stuck.items() if names)
        return f"Not converged, Dice near zero on the training volumes ({named}): no verdict. Train longer."
    if OWN not in tables:
        return "The run's own test is missing or out of date: no verdict."
    if len(tables) < 2:
        return "One run: another seed moves these figures by a point or two."
    if names := _different_settings(folder):
        return f"Fine-tuned with different {', '.join(names)}: no verdict. Run them again with the same."
    means = {arm: 100 * column_means(path)["mean"] for arm, path in tables.items()}
    changes = [f"{CHANGES[arm]}: {means[OWN] - mean:+.1f}" for arm, mean in means.items() if arm != OWN]
    volumes = counted(len(read_table(tables[OWN])), "test volume")
    return (
        f"{'; '.join(changes)} points of mean Dice on {volumes}, same labels, steps and seed. "
        "One run each: a few points are noise."
    )


def _different_settings(folder: Path) -> list[str]:
    """The settings in which a control's fine-tuning differs from the run's, if any."""
    stages = (RANDOM_FINE_TUNING, ALONE_FINE_TUNING, FINE_TUNING)
    random, alone, own = (record_of(folder, stage).get("settings", {}) for stage in stages)
    compared = {*random, *own} if random else set()
    different = {name for name in compared if random.get(name) != own.get(name)}
    # the keys of self-training are the run's alone
    return sorted(different | {name for name in {*alone} & {*own} if alone[name] != own[name]})


def pair_rows(shares: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table below ``PAIRS_HEAD``.

    Args:
        shares: ``false_negatives`` of ``probe.json``.
    """
    return [[name, *_percent(shares[method])] for method, name in METHODS.items() if method in shares]


def pair_text(shares: Mapping[str, Mapping[str, Any]], clusterings: Mapping[str, Mapping[str, Any]]) -> str:
    """The same as lines of text.

    Args:
        shares: see above.
        clusterings: ``clusterings`` of ``probe.json``: the same for each file of clusters; its own are left out.
    """
    others = {name: row for name, row in clusterings.items() if row != {**shares["ufc"], "sha256": row["sha256"]}}
    return aligned(
        [PAIRS_HEAD, *pair_rows(shares), *([f"UFC, {name}", *_percent(row)] for name, row in others.items())]
    )


def _percent(row: Mapping[str, Any]) -> list[str]:
    values = (row[name] for name in ("pushed_apart", "false_negatives", "true_positives"))
    return ["-" if value is None else f"{100 * value:.1f} %" for value in values]
