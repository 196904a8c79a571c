"""Which round of a run is to be done: the one that was begun, or another one if labels were added or corrected."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.chain import FINE_TUNING, SPLIT, VAE_TRAINING, record_of
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, readable_disk_errors, sha256_of
from ufc_monai.base.lock import at_work
from ufc_monai.base.rounds import BELOW, is_trained, number_of, round_folders
from ufc_monai.data.case import Case
from ufc_monai.data.split import Split
from ufc_monai.planning.estimate import known_ignore_id, known_labels
from ufc_monai.planning.options import ChainOptions, RunOptions, open_split_of
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.stages import Step, changes
from ufc_monai.report.page import listed

logger = logging.getLogger(__name__)
NOT_COPIED = {UNET: ("models*", "eval")}
"""What a round does not take over from the one before: what was learned from labels."""


def known_to_round(options: ChainOptions, cases: Sequence[Case]) -> dict[str, Any]:
    """What a round knows of the labels, ``labels.json`` in its folder: their sha256 by image, names and ids."""
    labels = {case.image: sha256_of(options.dataset_dir / case.label) for case in cases if case.label}
    structures = [*(known_labels(options) or {}).items()]
    return {"labels": labels, "structures": structures, "ignored": known_ignore_id(options)}


def digest(content: Any) -> str:
    """The sha256 of JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def round_to_do(options: RunOptions, cases: Sequence[Case]) -> RunOptions:
    """The options of the round that a run is at; another round is opened if labels were added or corrected.

    The split stays that of the first round, and so do stages 1 and 2, which read no labels: their files are copied. A
    round whose fine-tuning is not complete takes the labels as they are now, and no other is opened.

    Args:
        options: of the run.
        cases: all volumes.

    Returns:
        The options with the folder of the round, and the split.

    Raises:
        InputError: if files, options, or labels of held-out patients have changed, a changed label takes no part, or
            another run is at work there.
    """
    folders = round_folders(options.folder)
    path = folders[-1] / SPLIT
    if (options.folder / "study.lock").exists() or not path.is_file():
        return options
    split = open_split_of(options, path)
    options = replace(options, folder=folders[-1], split=split.content)
    trained = next(filter(is_trained, reversed(folders)), None)
    asked = record_of(trained, FINE_TUNING).get("asked") if trained else None
    if options.replace or not trained or not asked:
        return options
    now = known_to_round(replace(options, bundles=trained), cases)
    if digest([*now.values()]) == asked["data"]["labels"]:
        return replace(options, folder=trained)  # another round was opened, and its labels were taken back
    then = found_json(trained / "labels.json", "--folder")
    if digest([*then.values()]) != asked["data"]["labels"]:
        raise InputError(
            f"--folder: labels have changed since the run in {trained}, which is of an earlier version and does not "
            "say which. Name another --folder, or repeat stage 3 in this one: --replace True."
        )
    refuse_other_options(trained, options.bundles, plan_stages(options, cases))
    changed = _Change(options, split, then, now)
    for problem in changed.problems(record_of(trained, VAE_TRAINING)):
        raise InputError(f"{problem}, or name another --folder.")
    if trained == folders[-1]:
        options = replace(options, folder=_opened(folders[0], trained))
    number = number_of(options.folder, folders[0])
    logger.info("round %d in %s: %s; those before stay", number, options.folder, changed)
    return options


def refuse_other_options(folder: Path, bundles: Path, steps: Sequence[Step]) -> None:
    """Refuse steps that have run, or were begun, with other options; see :func:`~ufc_monai.planning.stages.changes`.

    Raises:
        InputError: naming what has changed.
    """
    if changed := changes(folder, bundles, steps):
        raise InputError(
            f"--folder: {folder} holds a run with other options (then / now): {', '.join(changed)}. Name another "
            "--folder, or repeat in this one what that changes: --replace True."
        )


@dataclass(frozen=True)
class _Change:
    """What is new about the labels since a round, in words."""

    options: RunOptions
    split: Split
    then: Mapping[str, Any]
    now: Mapping[str, Any]

    @property
    def added(self) -> list[str]:
        return sorted(self.now["labels"].keys() - self.then["labels"])

    @property
    def corrected(self) -> list[str]:
        return sorted(i for i, sha256 in self.then["labels"].items() if self.now["labels"].get(i, sha256) != sha256)

    def __str__(self) -> str:
        said = {"labels added": self.added, "labels corrected": self.corrected}
        return "; ".join(f"{what} of {listed(images)}" for what, images in said.items() if images)

    def problems(self, before: Mapping[str, Any]) -> Iterator[str]:
        """Why rounds could not be compared after these changes, or nothing be learned from them.

        Args:
            before: the record of stage 1.
        """
        held_out = {item["image"] for item in self.split.held_out(self.options.fold)}
        order = self.options.overrides.get(UNET, {}).get("label_order_path")
        path = self.options.folder / order if order else None
        used = self.split.labelled(self.options.fold, self.options.labelled, self.options.label_draw, path)
        if digest([*self.then.values()][1:]) != digest([*self.now.values()][1:]):
            yield "the structures have other names or ids than in the rounds before. Put them back"
        for image in self.split.skipped.keys() - before.get("skipped", {}).keys():
            yield (
                f"--skip_bad: {image}, from which stage 1 has learned, would be left out now: "
                f"{self.split.skipped[image]} Mend its label, or take it away"
            )
        for image in self.then["labels"].keys() - self.now["labels"]:
            yield f"the label of {image} is gone, from which a round has learned. Put it back"
        for image in self.corrected:
            if self._path(image) in held_out:
                yield f"the label of {image}, whose patient is held out, is another one: no Dice compares. Put it back"
        if not {self._path(image) for image in (*self.added, *self.corrected)} & {item["image"] for item in used}:
            option = f"--set {UNET}.label_order_path={order}" if order else f"--labelled {self.options.labelled}"
            yield (
                f"{option}: the labels that have changed ({self}) are not among those. Take the option out, and begin "
                "with --replace True"
            )

    def _path(self, image: str) -> str:
        return os.path.join(os.path.abspath(self.options.dataset_dir), image)


def _opened(run: Path, before: Path) -> Path:
    """Open a round with the bundles of the one before, and what they know without labels; whole, or not at all."""
    target = run / BELOW / str(number_of(before, run) + 1)
    half = target.with_name(f".{target.name}")
    with at_work(before / "run.lock"), contextlib.ExitStack() as afterwards:
        shutil.rmtree(half, ignore_errors=True)
        afterwards.callback(shutil.rmtree, half, ignore_errors=True)
        for bundle in sorted(before.glob("ufc_*")):
            if bundle.is_dir() and bundle.name.startswith(BUNDLES):
                left = shutil.ignore_patterns("cache", "checkpoint*.pt", *NOT_COPIED.get(bundle.name, ()))
                shutil.copytree(bundle, half / bundle.name, ignore=left, copy_function=_copy)
        half.rename(target)
    return target


def _copy(source: str, target: str) -> None:
    with readable_disk_errors(target):  # copytree would gather the system's errors, and go on
        shutil.copy2(source, target)
