"""Which stages a data set asks for, and the command of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ufc_monai.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.commands.options import RunOptions, check_options, is_setting, stage_2_batch, training_configs
from ufc_monai.commands.stages import Stage, bundle_command, config_path
from ufc_monai.commands.tracking import tracking_words
from ufc_monai.data import Case, find_cases, make_split
from ufc_monai.errors import InputError
from ufc_monai.files import read_json

__all__ = ["plan_clusters", "plan_stages", "stage_command"]

logger = logging.getLogger(__name__)

SPLIT = f"{VAE}/eval/split.json"
LABELS = f"{VAE}/eval/inference/pseudo_labels.json"


def plan_stages(options: RunOptions, cases: Sequence[Case]) -> list[Stage]:
    """The stages that a data set allows, in order.

    Without labels there is pretraining alone; with fewer than 4 labelled patients nothing is tested; without unlabelled
    volumes nothing is left to segment.

    Raises:
        InputError: at a budget that fold and draw do not have.
    """
    check_options(options)
    split = make_split(cases, seed=0)
    _check_fold(split, options)
    plan = _Planner(options, config_path(options.dataset_dir.resolve(), "--dataset_dir"))
    stages = plan.pretraining()
    if not any(case.label for case in cases):
        logger.warning("no volume has a label: stages 1 and 2 run, and there is nothing to fine-tune on")
        return stages
    _check_budget(split, options)
    held_out = bool(split["folds"][0]["test"])
    if held_out and "isic" not in options.preset:  # every picture shows a lesion: a probe has nothing to tell
        stages.append(plan.probe())
    stages += plan.segmentation("pretrained encoder", "", {}, held_out)
    if options.compare:
        arm = {"pretrained_path": "none", "ckpt_dir": f"{UNET}/models_random"}
        stages += plan.segmentation("random initialisation", "random_", arm, held_out)
    if any(case.label is None for case in [*cases, *_test_images(options)]):
        stages.append(plan.unlabelled_masks())
    return stages


def plan_clusters(options: RunOptions, cases: Sequence[Case]) -> list[Stage]:
    """Those of :func:`plan_stages` that end with the clusters; its errors are the same."""
    check_options(options)
    _check_fold(make_split(cases, seed=0), options)
    return _Planner(options, config_path(options.dataset_dir.resolve(), "--dataset_dir")).pretraining()[:2]


class _Planner:
    """Builds the stages of one run."""

    def __init__(self, options: RunOptions, dataset_dir: str) -> None:
        self.options = options
        self.dataset_dir = dataset_dir
        self.tracking = tracking_words(options.folder) if options.tracking else ()
        self.train = {bundle: training_configs(options, bundle) for bundle in BUNDLES}

    def pretraining(self) -> list[Stage]:
        made, found = (*_weights(VAE), SPLIT), (LABELS, f"{VAE}/eval/inference/features.npz")
        batch, train = stage_2_batch(self.options), self.train
        return [
            self._stage("stage 1: train the beta-VAE", VAE, train[VAE], (), made),
            self._stage("stage 1: features and clusters", VAE, ["inference"], made, found, batch),
            self._stage(
                "stage 2: contrastive pretraining",
                *(CONTRASTIVE, train[CONTRASTIVE], (LABELS, SPLIT), _weights(CONTRASTIVE)),
            ),
        ]

    def probe(self) -> Stage:
        title, inputs = "stage 2: linear probe of the encoder", (*_weights(CONTRASTIVE), LABELS)
        result = (f"{CONTRASTIVE}/eval/probe/probe.json",)
        return self._stage(title, CONTRASTIVE, ["probe"], inputs, result, reads_labels=True)

    def segmentation(self, arm: str, prefix: str, start: Mapping[str, str], held_out: bool) -> list[Stage]:
        weights = _weights(UNET, start.get("ckpt_dir"))
        budget = {} if self.options.labelled is None else {"labelled_volumes": self.options.labelled}
        inputs = (SPLIT,) if "pretrained_path" in start else (SPLIT, *_weights(CONTRASTIVE))
        title, keys = f"stage 3: fine-tune, {arm}", {**start, **budget}
        stages = [self._stage(title, UNET, self.train[UNET], inputs, weights, keys, prefix, reads_labels=True)]
        if held_out:
            title, result = f"stage 3: test, {arm}", (f"{UNET}/eval/{prefix}evaluate/dice.csv",)
            keys = {key: start[key] for key in ("ckpt_dir",) if key in start}
            configs, inputs = ["train", "evaluate"], (SPLIT, *weights)
            stages.append(self._stage(title, UNET, configs, inputs, result, keys, prefix, reads_labels=True))
        return stages

    def unlabelled_masks(self) -> Stage:
        title, masks = "stage 3: segment the unlabelled volumes", (f"{UNET}/eval/inference/**/*_seg.*",)
        return self._stage(title, UNET, ["inference"], _weights(UNET), masks, {"unlabelled_only": True})

    def _stage(
        self,
        title: str,
        bundle: str,
        configs: list[str],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        keys: Mapping[str, Any] | None = None,
        prefix: str = "",
        reads_labels: bool = False,
    ) -> Stage:
        """A stage; ``prefix`` gives it an output folder beside that of the same stage of another arm."""
        place = f"{bundle}/eval/{prefix}{'train' if configs == self.train[bundle] else configs[-1]}"
        own = {**(keys or {}), **({"output_dir": place} if prefix else {})}
        command = stage_command(self.options, bundle, configs, self.dataset_dir, own)
        return Stage(title, command, f"{place}/run.json", inputs, outputs, reads_labels, self.tracking)


def stage_command(
    options: RunOptions, bundle: str, configs: Sequence[str], dataset_dir: str, keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """The command of one stage, of a run or of a study.

    Args:
        options: their keys go to every stage that leaves them to the user, their overrides to the bundle's training.
        bundle: its name.
        configs: names of its configurations, the later laid over the earlier.
        dataset_dir: folder of the data set, from :func:`config_path`.
        keys: of this stage alone; they win.
    """
    known = read_json(options.bundles / bundle / "configs" / f"{configs[0]}.json", "--bundles")
    common = {key: value for key, value in options.keys.items() if is_setting(known, key)}
    if configs[-1] == "evaluate":  # which takes everything else from network.json
        common = {key: value for key, value in common.items() if key in ("skip_bad", "threads", "device")}
    trains = configs[0] == "train" and configs[-1] != "evaluate"
    training = options.overrides.get(bundle, {}) if trains else {}
    return bundle_command(bundle, configs, dataset_dir, {**common, **training, **keys})


def _test_images(options: RunOptions) -> list[Case]:
    """Those of the data set's folder: nothing is trained on them, but they are segmented."""
    found = find_cases(options.dataset_dir, include_test_images=True) if options.dataset_dir.is_dir() else []
    return [case for case in found if case.of_test_set]


def _weights(bundle: str, ckpt_dir: str | None = None) -> tuple[str, str]:
    folder = ckpt_dir or f"{bundle}/models"
    return f"{folder}/model.pt", f"{folder}/network.json"


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
