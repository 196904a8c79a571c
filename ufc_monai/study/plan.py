"""The plan of a study: every run with its commands, what it needs, and how long it will take."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json
from ufc_monai.data.case import Case
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.data.split import pretraining_images
from ufc_monai.planning.estimate import StageEstimate, estimate_training, least_memory
from ufc_monai.planning.options import cluster_configs, stage_2_batch, training_configs
from ufc_monai.planning.plan import stage_command
from ufc_monai.planning.stages import options_of
from ufc_monai.report.page import aligned
from ufc_monai.study.arms import COVERING, Arm, Clusters, find_arms
from ufc_monai.study.options import StudyOptions, check_study, volumes_of
from ufc_monai.study.runs import CLUSTERS, FEATURES, FINE_TUNING, PRETRAINING, PROBE, SELECTION, SHUFFLE, Run
from ufc_monai.training.log import duration

LIKE_STAGE_3 = ("features", "norm", "image_size")
"""Keys of stage 3 that an encoder has to share; ``vae_init`` takes them over."""

START = 8.0
"""Seconds that a program takes to start."""
RESTORED = 4.0
"""A test reads, restores and measures a volume in this many times the time to read it."""


def plan_runs(options: StudyOptions, split: Mapping[str, Any], cases: Sequence[Case]) -> list[Run]:
    """Every run of a study, each after those that it needs.

    All arms have the same labels, steps and seeds; what several runs need is computed once: the features of
    a fold, each clustering of them, and one pretraining per fold, method and seed.

    Args:
        options: what to compare.
        split: the content of ``split.json``.
        cases: all volumes.

    Raises:
        InputError: at an option that does not fit the data set or the bundles.
    """
    check_study(options, split)
    plan, found = _Planner(options), find_arms(options.methods, options.clusterings, options.bundles)
    arms = [replace(arm, covers=how == "coverage") for how in options.selection for arm in found]
    folds = range(len(split["folds"]) if options.folds is None else options.folds)
    budgets = [(fold, {b: volumes_of(b, split, fold) for b in options.budgets}) for fold in folds]
    _check_unlabelled(found, budgets, split, cases)
    # a study that is stopped early has all arms of the first repeats, not all repeats of the first arms
    for (seed, draw), (fold, volumes), arm in itertools.product(options.repeats(), budgets, arms):
        for budget, n in volumes.items():
            plan.add_fine_tuning(arm, fold, budget, n, (seed, draw, seed), counts=True)
    seed, draw = options.repeats()[0]
    for init_seed, arm in itertools.product(range(1, options.init_seeds), arms):
        for budget, n in budgets[0][1].items():
            plan.add_fine_tuning(arm, 0, budget, n, (seed, draw, init_seed), counts=False)
    return list(plan.runs.values())


def _check_unlabelled(
    arms: Sequence[Arm],
    budgets: Sequence[tuple[int, Mapping[str, int]]],
    split: Mapping[str, Any],
    cases: Sequence[Case],
) -> None:
    """Refuse budgets that leave nothing unlabelled for the arms that learn from it."""
    learning = [arm.name for arm in arms if "self_training" in arm.training]
    for fold, volumes in budgets if learning else ():
        there = len(pretraining_images(split, fold, cases))
        for budget in (budget for budget, n in volumes.items() if n == there):
            raise InputError(
                f"--budgets: {budget} leaves no training scan of fold {fold} unlabelled, from which {learning[0]} "
                "could learn. Leave out one of them."
            )


class _Planner:
    """Collects the runs of a study by name, so that each shared run is planned once."""

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self.batch = stage_2_batch(options)
        self.runs: dict[str, Run] = {}

    def add_fine_tuning(
        self, arm: Arm, fold: int, budget: str, volumes: int, seeds: tuple[int, int, int], counts: bool
    ) -> None:
        seed, draw, init_seed = seeds
        # random weights have no pretraining seed
        place, pretrained = (
            f"fold{fold}/{name}" + (f"/seed{seed}" if arm.bundle else "") for name in (arm.name, arm.start)
        )
        granted = "coverage" if arm.covers else f"draw{draw}"
        name = f"{place}/n{budget.replace('%', 'percent')}_{granted}_init{init_seed}"
        keys: dict[str, Any] = {"fold": fold, "labelled_volumes": volumes, "label_draw": draw, "seed": init_seed}
        keys["pretrained_path"] = "none"
        needs = []
        if arm.bundle:
            needs.append(self._pretraining(arm, fold, seed, f"{pretrained}/pretraining"))
            keys["pretrained_path"] = f"runs/{needs[-1]}/models/model.pt"
        if arm.covers:
            needs.append(self._selection(fold))
            keys["label_order_path"] = f"runs/{needs[-1]}/selection.json"
        run = Run(name, FINE_TUNING, (), tuple(needs), fold, arm.title, budget, volumes, draw, seed, init_seed, counts)
        if counts or name not in self.runs:
            train = training_configs(replace(self.options, unlabelled=arm.unlabelled), UNET)
            self._add(run, (UNET, train, keys), (UNET, ["train", "evaluate"], {}))

    def _pretraining(self, arm: Arm, fold: int, seed: int, name: str) -> str:
        if name in self.runs:
            return name
        bundle, needs, keys = str(arm.bundle), list[str](), dict[str, Any](fold=fold, seed=seed)
        configs = training_configs(replace(self.options, features=None, method="+".join(arm.configs)), bundle)
        if bundle == VAE:
            configs[1:1] = arm.configs
            theirs = self.options.overrides.get(UNET, {})
            keys |= {key: theirs[key] for key in LIKE_STAGE_3 if key in theirs}
        elif arm.clusters:
            needs.append(self._clusters(arm.clusters, fold, seed))
            keys["pseudo_labels_path"] = f"runs/{needs[0]}/pseudo_labels.json"
        self._add(Run(name, PRETRAINING, (), tuple(needs), fold, arm.start, seed=seed), (bundle, configs, keys))
        if bundle == CONTRASTIVE and "isic" not in self.options.preset.split("+"):  # every picture shows a lesion
            probe = Run(f"{name.rpartition('/')[0]}/probe", PROBE, (), (name,), fold, arm.start, seed=seed)
            self._add(probe, (CONTRASTIVE, ["probe"], {}), weights=name)
        return name

    def _clusters(self, clusters: Clusters, fold: int, seed: int) -> str:
        features = Run(f"fold{fold}/features", FEATURES, fold=fold)
        self._add(features, (VAE, training_configs(self.options, VAE), {"fold": fold}))
        run = Run(f"fold{fold}/{clusters.name}", CLUSTERS, (), (features.name,), fold)
        configs = cluster_configs(self.options) if clusters.name == Clusters().name else clusters.configs
        self._add(run, (VAE, configs, {**self.batch, **clusters.keys}), weights=features.name)
        if not clusters.shuffled:
            return run.name
        return self._add(Run(f"{run.name}_random_seed{seed}", SHUFFLE, (), (run.name,), fold, seed=seed))

    def _selection(self, fold: int) -> str:
        """The run that orders the labelled training volumes by how well they cover the clusters."""
        return self._add(Run(f"fold{fold}/selection", SELECTION, (), (self._clusters(Clusters(), fold, 0),), fold))

    def _add(self, run: Run, *steps: tuple[str, Sequence[str], Mapping[str, Any]], weights: str | None = None) -> str:
        """Add a run and return its name.

        Args:
            run: the run, without its commands.
            steps: for each command its bundle, its configurations and its own keys.
            weights: the run whose weights it reads; its own by default.
        """
        shared = {"split_path": "split.json", "cache_dir": "cache", "ckpt_dir": f"runs/{weights or run.name}/models"}
        for (bundle, configs, keys), record in zip(steps, run.records, strict=False):
            keys = {**keys, **shared, "output_dir": record.removesuffix("/run.json")}
            run.commands += (stage_command(self.options, bundle, configs, keys),)
        self.runs[run.name] = run
        return run.name


def estimate_runs(
    options: StudyOptions, cases: Sequence[Case], facts: Sequence[VolumeFacts], runs: Sequence[Run]
) -> tuple[dict[str, float], int, str]:
    """What the runs of a plan will take; each kind of training is timed once, for a few seconds.

    Args:
        options: of the study.
        cases: all volumes.
        facts: of all or some of them.
        runs: the plan.

    Returns:
        About how many seconds each run takes, by its name; bytes of main memory that the largest one needs, and what
        would need less.
    """
    found = find_arms(options.methods, options.clusterings, options.bundles)
    arms = {name: arm for arm in found for name in (arm.start, arm.name)}
    labelled = sum(case.label is not None for case in cases)
    reading = labelled * statistics.median(f.seconds for f in facts if f.slices)
    beside = {FINE_TUNING: RESTORED * reading / 4, PROBE: reading, CLUSTERS: reading}
    timed: dict[tuple[str, str | None, str, int | None], StageEstimate] = {}
    seconds = {}
    for run in runs:
        taken = START * max(1, len(run.commands)) + beside.get(run.kind, 0.0)
        if run.kind in (FEATURES, PRETRAINING, FINE_TUNING):
            bundle = options_of(run.commands[0])["--bundle_root"]
            arm = arms.get(str(run.method).removesuffix(COVERING), Arm(""))
            method = "+".join(arm.configs) if bundle == CONTRASTIVE else None
            key = bundle, method, arm.unlabelled, run.volumes
            if key not in timed:
                own = replace(options, method=method, unlabelled=arm.unlabelled, labelled=run.volumes)
                timed[key] = estimate_training(own, bundle, cases, facts)
            taken += timed[key].seconds
        seconds[run.name] = round(taken, 1)
    return seconds, *least_memory(timed.values(), cases, facts)


def measured_seconds(folder: Path, runs: Sequence[Run], estimated: Mapping[str, float]) -> dict[str, float]:
    """The estimate, corrected by what complete runs of the same kind, method and budget have taken."""
    taken = defaultdict[Any, list[float]](list)
    for run in runs:
        contents = [found_json(folder / record, "--folder") for record in run.records]
        if all("seconds" in content for content in contents):
            taken[run.kind, run.method, run.budget].append(sum(content["seconds"] + START for content in contents))
    means = {key: statistics.fmean(seconds) for key, seconds in taken.items()}
    return {run.name: means.get((run.kind, run.method, run.budget), estimated.get(run.name, 0.0)) for run in runs}


def plan_table(runs: Sequence[Run], seconds: Mapping[str, float]) -> str:
    """How many runs of each kind there are, and how long each takes."""
    rows = defaultdict[str, list[float]](list)
    for run in runs:
        rows[" ".join(filter(None, (run.kind, run.method, run.budget and f"at {run.budget}")))].append(
            seconds[run.name]
        )
    return aligned([[what, f"{len(times)} x", duration(statistics.fmean(times))] for what, times in rows.items()])
