"""Which stages a data set asks for, the command of each, and where ``--tracking mlflow`` has them recorded."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ufc_monai.base import chain
from ufc_monai.base.bundles import CONTRASTIVE
from ufc_monai.base.chain import Stage
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inert, read_json
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.split import pretraining_images
from ufc_monai.planning.options import (
    ChainOptions,
    RunOptions,
    check_installed,
    check_options,
    cluster_configs,
    is_setting,
    keys_of,
    stage_2_batch,
    training_configs,
)
from ufc_monai.planning.stages import Step, bundle_command, config_path
from ufc_monai.training.setup import top_of

logger = logging.getLogger(__name__)


def plan_stages(options: RunOptions, cases: Sequence[Case]) -> list[Step]:
    """The stages that a data set allows, in order.

    Without labels there is pretraining alone; with fewer than 4 labelled patients nothing is tested; without unlabelled
    volumes nothing is left to segment.

    Raises:
        InputError: at a budget that fold and draw do not have.
    """
    left_out = [] if options.compare else [chain.RANDOM_FINE_TUNING, chain.RANDOM_TEST]
    if not options.compare or options.unlabelled == "none":
        left_out += [chain.ALONE_FINE_TUNING, chain.ALONE_TEST]
    check_options(options)
    split = options.split_of(cases)
    _check_fold(split, options)
    if any(case.label for case in cases):
        _check_budget(split, options)
        _check_unlabelled(split, options, cases)
    elif options.labelled is not None:
        raise InputError(
            f"--labelled {options.labelled}: none of the {len(cases)} scans of {options.dataset_dir} has a label. "
            "Labels lie in labels/ or are called X_seg beside X (docs/how-to.md); to do without, leave --labelled out."
        )
    else:
        logger.warning("no volume has a label: stages 1 and 2 run, and there is nothing to fine-tune on")
        return _planned(options, [chain.VAE_TRAINING, chain.CLUSTERS, chain.PRETRAINING])
    if not split["folds"][0]["test"]:
        left_out += [chain.PROBE, chain.TEST, chain.RANDOM_TEST, chain.ALONE_TEST]
    if "isic" in options.preset:  # every picture shows a lesion: a probe has nothing to tell
        left_out.append(chain.PROBE)
    found = find_cases(options.dataset_dir, include_test_images=True) if options.dataset_dir.is_dir() else []
    if all(case.label for case in [*cases, *(case for case in found if case.of_test_set)]):
        left_out.append(chain.MASKS)
    return _planned(options, [stage for stage in chain.STAGES if stage not in left_out])


def plan_clusters(options: RunOptions, cases: Sequence[Case]) -> list[Step]:
    """Those of :func:`plan_stages` that end with the clusters; its errors are the same."""
    check_options(options)
    _check_fold(options.split_of(cases), options)
    return _planned(options, [chain.VAE_TRAINING, chain.CLUSTERS])


def _planned(options: RunOptions, stages: Sequence[Stage]) -> list[Step]:
    """The stages with their commands.

    Raises:
        InputError: if what tracks them is not installed.
    """
    if options.tracking:
        check_installed(options.tracking)
    tracking = tracking_keys(options.folder) if options.tracking else {}
    budget = {} if options.labelled is None else {"labelled_volumes": options.labelled}
    labels = {k: v for k, v in options.overrides.get(CONTRASTIVE, {}).items() if k == "pseudo_labels_path"}
    alone = replace(options, unlabelled="none")
    clusters = cluster_configs(options)
    place = {"output_dir": chain.CLUSTERS.place} if clusters[1:] else {}  # in place of that file's own
    own = {
        chain.CLUSTERS.title: {**stage_2_batch(options), **place},
        chain.PROBE.title: labels,  # it judges the clusters that were pretrained with
        chain.FINE_TUNING.title: budget,
        chain.RANDOM_FINE_TUNING.title: budget,
        chain.ALONE_FINE_TUNING.title: budget,
    }
    planned = []
    for stage in stages:
        asked = alone if stage in (chain.ALONE_FINE_TUNING, chain.ALONE_TEST) else options
        configs = {"train": training_configs(asked, stage.bundle), "evaluate": ["train", "evaluate"]}
        configs |= {"inference": clusters} if stage == chain.CLUSTERS else {}
        keys = {**stage.keys, **own.get(stage.title, {}), **tracking}
        words = stage_command(asked, stage.bundle, configs.get(stage.config, [stage.config]), keys)
        planned.append(Step(stage.title, words, stage.record, stage.outputs, stage.reads))
    return planned


def stage_command(
    options: ChainOptions, bundle: str, configs: Sequence[str], keys: Mapping[str, Any]
) -> tuple[str, ...]:
    """The command of one stage, of a run or of a study.

    Args:
        options: their keys go to every stage that leaves them to the user, their overrides to the bundle's training.
        bundle: its name.
        configs: names of its configurations, the later laid over the earlier.
        keys: of this stage alone; they win.
    """
    folder, known = options.bundles / bundle / "configs", dict[str, Any]()
    for name in configs:
        known |= read_json(folder / f"{name}.json", "--bundles")
    common = {key: value for key, value in options.keys.items() if is_setting(known, key)}
    if configs[-1] == "evaluate":  # which takes everything else from network.json
        common = {key: value for key, value in common.items() if key in ("skip_bad", "threads", "device")}
    trains = configs[0] == "train" and configs[-1] != "evaluate"
    laid = keys_of(options.bundles / bundle, configs)  # in a study another arm may have the others
    training = {k: v for k, v in options.overrides.get(bundle, {}).items() if trains and top_of(k) in laid}
    dataset_dir = config_path(options.dataset_dir.resolve(), "--dataset_dir")
    return bundle_command(bundle, configs, dataset_dir, {**common, **training, **keys})


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


def tracking_keys(folder: Path) -> dict[str, str]:
    """The keys with which MONAI tracks a stage in the run's folder."""
    where, name = _store(folder)
    return {"tracking": "mlflow", "tracking_uri": where, "experiment_name": name}


def track_report(folder: Path, report: Path) -> None:
    """Log the report as its own run beside those of the stages.

    Args:
        folder: of the run.
        report: the HTML file.
    """
    where, name = _store(folder)
    client = importlib.import_module("mlflow").MlflowClient(where)
    experiment = client.get_experiment_by_name(name)
    place = folder.resolve() / "mlruns"
    number = experiment.experiment_id if experiment else client.create_experiment(name, place.as_uri())
    run = client.create_run(number, run_name="report").info.run_id
    client.log_artifact(run, str(report))
    client.set_terminated(run)


def _store(folder: Path) -> tuple[str, str]:
    """Where the store is, and the name of the experiment in it."""
    place = (folder.resolve() / "mlruns.db").as_posix()
    return f"sqlite:///{quote(place, safe='/:')}", str(inert(folder.resolve().name, "--folder"))


def _check_unlabelled(split: Mapping[str, Any], options: RunOptions, cases: Sequence[Case]) -> None:
    """Refuse to learn from unlabelled scans where there are none, before the first stage."""
    used = split["folds"][options.fold]["label_orders"][options.label_draw][: options.labelled]
    if options.unlabelled != "none" and not set(pretraining_images(split, options.fold, cases)).difference(used):
        raise InputError(
            f"--unlabelled {options.unlabelled}: all {len(used)} training volumes are used with their labels, so none "
            "is left. Leave the option out, or lower --labelled."
        )
