"""Which stages a data set asks for, and the command of each."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ufc_monai.bundles import BUNDLES, CONTRASTIVE, UNET, VAE, methods
from ufc_monai.commands.stages import Stage, bundle_command
from ufc_monai.data import Case, make_split
from ufc_monai.engines import check_device
from ufc_monai.errors import InputError
from ufc_monai.files import read_json

__all__ = ["RunOptions", "default_bundles", "find_bundles", "plan_stages", "training_configs"]

logger = logging.getLogger(__name__)

NUMBERS = {"fold": 0, "label_draw": 0, "seed": 0, "threads": 1, "n_clusters": 2}
"""Keys that are whole numbers, and the least that they may be."""
SHARED = ("fold", "split_path", "split_seed")
"""Keys that no bundle may have to itself: the stages would work with different patients."""


@dataclass(frozen=True)
class RunOptions:
    """What a run does.

    Attributes:
        dataset_dir: folder of the data set.
        folder: of the run; it becomes self-contained: bundles, weights, results, report.
        bundles: where the three bundles are copied from.
        labelled: the label budget in volumes; ``None`` is all that training may use.
        preset: ``"cpu"`` lays cpu.json over each train.json and ``"isic"`` isic.json, ``"paper"`` nothing, ``"auto"``
            takes cpu without a GPU.
        method: a configuration of stage 2 that is laid over its training, such as ``"moco"``; ``None`` is the paper's.
        compare: also fine-tune from random weights, with the same labels, steps and seed.
        keys: keys that are handed to every configuration that has them.
        overrides: keys of one bundle's training, by the bundle's name.
        estimate: say beforehand how long it will take.
    """

    dataset_dir: Path
    folder: Path
    bundles: Path
    labelled: int | None = None
    preset: str = "auto"
    method: str | None = None
    compare: bool = False
    keys: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    estimate: bool = True

    @property
    def fold(self) -> int:
        """Which quarter of the labelled patients is tested."""
        return int(self.keys.get("fold", 0))

    @property
    def label_draw(self) -> int:
        """Which order grants the labels."""
        return int(self.keys.get("label_draw", 0))


def find_bundles(named: Path | None = None) -> Path:
    """The folder of the three bundles: the one named, ``bundles`` here, or the one beside the package's source.

    Raises:
        InputError: if a bundle is missing there.
    """
    found = default_bundles() if named is None else named if _holds_bundles(named) else None
    if found is None:
        raise InputError(
            f"--bundles: there is no bundle {(named or Path('bundles')) / VAE}. Name the folder 'bundles' of the "
            "repository."
        )
    return found


def default_bundles() -> Path | None:
    """The folder of the three bundles that is taken where none is named, if there is one."""
    places = Path("bundles"), Path(__file__).parents[2] / "bundles"
    return next((place for place in places if _holds_bundles(place)), None)


def plan_stages(options: RunOptions, cases: Sequence[Case]) -> list[Stage]:
    """The stages that a data set allows, in order.

    Without labels there is pretraining alone; with fewer than 4 labelled patients nothing is tested; without unlabelled
    volumes nothing is left to segment.

    Raises:
        InputError: at a budget that fold and draw do not have.
    """
    _check_overrides(options)
    _check_method(options)
    _check_keys(options.keys)
    split = make_split(cases, seed=0)
    _check_fold(split, options)
    plan = _Planner(options, str(options.dataset_dir.resolve()))
    stages = plan.pretraining()
    if not any(case.label for case in cases):
        logger.warning("no volume has a label: stages 1 and 2 run, and there is nothing to fine-tune on")
        return stages
    _check_budget(split, options)
    held_out = len(split["folds"]) > 1
    if held_out and options.preset != "isic":  # where a probe has nothing to tell: every picture shows a lesion
        stages.append(plan.probe())
    stages += plan.segmentation("pretrained encoder", "", {}, held_out)
    if options.compare:
        arm = {"pretrained_path": "none", "ckpt_dir": f"{UNET}/models_random"}
        stages += plan.segmentation("random initialisation", "random_", arm, held_out)
    if any(case.label is None for case in cases):
        stages.append(plan.unlabelled_masks())
    return stages


def training_configs(options: RunOptions, bundle: str) -> list[str]:
    """The configurations that a bundle is trained with, laid over each other.

    The preset ``"auto"`` is ``"cpu"`` where there is no GPU.
    """
    automatic = "paper" if torch.cuda.is_available() else "cpu"
    preset = automatic if options.preset == "auto" else options.preset
    method = [options.method] if options.method and bundle == CONTRASTIVE else []
    return ["train", *([] if preset == "paper" else [preset]), *method]


class _Planner:
    """Builds the stages of one run."""

    def __init__(self, options: RunOptions, dataset_dir: str) -> None:
        self.options = options
        self.dataset_dir = dataset_dir
        self.train = {bundle: training_configs(options, bundle) for bundle in BUNDLES}

    def pretraining(self) -> list[Stage]:
        features, labels = f"{VAE}/eval/inference", f"{VAE}/eval/inference/pseudo_labels.json"
        split = f"{VAE}/eval/split.json"
        return [
            self._stage("stage 1: train the beta-VAE", VAE, self.train[VAE], "train", (), (*_weights(VAE), split)),
            self._stage(
                "stage 1: features and clusters",
                VAE,
                ["inference"],
                "inference",
                (*_weights(VAE), split),
                (labels, f"{features}/features.npz"),
            ),
            self._stage(
                "stage 2: contrastive pretraining",
                CONTRASTIVE,
                self.train[CONTRASTIVE],
                "train",
                (labels, split),
                _weights(CONTRASTIVE),
            ),
        ]

    def probe(self) -> Stage:
        result = (f"{CONTRASTIVE}/eval/probe/probe.json",)
        labels = f"{VAE}/eval/inference/pseudo_labels.json"
        title, inputs = "stage 2: linear probe of the encoder", (*_weights(CONTRASTIVE), labels)
        return self._stage(title, CONTRASTIVE, ["probe"], "probe", inputs, result, reads_labels=True)

    def segmentation(self, arm: str, prefix: str, start: Mapping[str, str], held_out: bool) -> list[Stage]:
        weights = tuple(f"{start.get('ckpt_dir', f'{UNET}/models')}/{name}" for name in ("model.pt", "network.json"))
        split = f"{VAE}/eval/split.json"
        keys: dict[str, Any] = {**start}
        if prefix:
            keys["output_dir"] = f"{UNET}/eval/{prefix}train"
        if self.options.labelled is not None:
            keys["labelled_volumes"] = self.options.labelled
        inputs = (split,) if "pretrained_path" in start else (split, *_weights(CONTRASTIVE))
        record = f"{prefix}train"
        stages = [
            self._stage(f"stage 3: fine-tune, {arm}", UNET, self.train[UNET], record, inputs, weights, keys, True)
        ]
        if held_out:
            place = {"output_dir": f"{UNET}/eval/{prefix}evaluate"} if prefix else {}
            place |= {key: start[key] for key in ("ckpt_dir",) if key in start}
            title, result = f"stage 3: test, {arm}", (f"{UNET}/eval/{prefix}evaluate/dice.csv",)
            record = f"{prefix}evaluate"
            stages.append(
                self._stage(title, UNET, ["train", "evaluate"], record, (split, *weights), result, place, True)
            )
        return stages

    def unlabelled_masks(self) -> Stage:
        masks = (f"{UNET}/eval/inference/**/*_seg.*",)
        keys = {"unlabelled_only": True}
        title = "stage 3: segment the unlabelled volumes"
        return self._stage(title, UNET, ["inference"], "inference", _weights(UNET), masks, keys)

    def _stage(
        self,
        title: str,
        bundle: str,
        configs: list[str],
        record: str,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        keys: Mapping[str, Any] | None = None,
        reads_labels: bool = False,
    ) -> Stage:
        known = read_json(self.options.bundles / bundle / "configs" / f"{configs[0]}.json", "--bundles")
        common = {key: value for key, value in self.options.keys.items() if _is_setting(known, key)}
        if configs[-1] == "evaluate":  # which takes everything else from network.json
            common = {key: value for key, value in common.items() if key in ("threads", "device")}
        training = self.options.overrides.get(bundle, {}) if configs == self.train[bundle] else {}
        command = bundle_command(bundle, configs, self.dataset_dir, {**common, **training, **(keys or {})})
        return Stage(title, command, f"{bundle}/eval/{record}/run.json", inputs, outputs, reads_labels)


def _holds_bundles(folder: Path) -> bool:
    return all((folder / name / "configs" / "train.json").is_file() for name in BUNDLES)


def _weights(bundle: str) -> tuple[str, str]:
    return f"{bundle}/models/model.pt", f"{bundle}/models/network.json"


def _is_setting(config: Mapping[str, Any], key: str) -> bool:
    """Whether a configuration leaves a key to the user, instead of reading it from network.json."""
    return key in config and "network_file" not in str(config[key])


def _check_overrides(options: RunOptions) -> None:
    for bundle, settings in options.overrides.items():
        if bundle not in BUNDLES:
            raise InputError(f"--set: there is no bundle {bundle}; expected one of {', '.join(BUNDLES)}.")
        known = read_json(options.bundles / bundle / "configs" / "train.json", "--bundles")
        for key in settings:
            if key in SHARED:
                raise InputError(
                    f"--set: {key} is the same in all stages; --fold and --label_draw choose the patients."
                )
            if re.split("::|#", key)[0] not in known:
                near = difflib.get_close_matches(key, known, n=1)
                meant = f"Did you mean {near[0]}?" if near else "Its docs/README.md lists them."
                raise InputError(f"--set: {key} is no key of {bundle}. {meant}")


def _check_method(options: RunOptions) -> None:
    known = methods(options.bundles)
    if options.method is not None and options.method not in known:
        near = difflib.get_close_matches(options.method, known, n=1)
        meant = f"Did you mean {near[0]}?" if near else f"Expected one of {', '.join(known)}."
        raise InputError(f"--method: there is no {options.method}.json in {CONTRASTIVE}/configs. {meant}")


def _check_keys(keys: Mapping[str, Any]) -> None:
    """Refuse at once what a stage would refuse later."""
    for key, least in NUMBERS.items():
        value = keys.get(key, least)
        if not isinstance(value, int) or value < least:
            raise InputError(f"--{key} must be a whole number of {least} or more, got {value!r}.")
    window, ignored = keys.get("window", [0, 1]), keys.get("ignore_labels", [])
    if not (_are_numbers(window) and len(window) == 2 and window[0] < window[1]):
        raise InputError(f'--window must be two rising numbers like "[-125,275]"; got {window!r}.')
    if not _are_numbers(ignored):
        raise InputError(f'--ignore_labels must be a list of ids like "[3,4]"; got {ignored!r}.')
    if "device" in keys:
        check_device(keys["device"])


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(n, int | float) for n in value)


def _check_fold(split: Mapping[str, Any], options: RunOptions) -> None:
    folds = split["folds"]
    if options.fold >= len(folds):
        raise InputError(f"--fold must be 0 to {len(folds) - 1} for this data set, got {options.fold}.")
    draws = len(folds[options.fold]["label_orders"])
    if options.label_draw >= draws:
        raise InputError(f"--label_draw must be 0 to {draws - 1}, got {options.label_draw}.")


def _check_budget(split: Mapping[str, Any], options: RunOptions) -> None:
    fold = options.fold
    most = len(split["folds"][fold]["label_orders"][options.label_draw])
    if options.labelled is not None and not 1 <= options.labelled <= most:
        roles = ", ".join(f"{len(split['folds'][fold][role])} {role}" for role in ("training", "validation", "test"))
        raise InputError(
            f"--labelled must be 1 to {most}, the labelled volumes of the training patients; got {options.labelled}. "
            f"(Labelled patients of fold {fold}: {roles}.)"
        )
