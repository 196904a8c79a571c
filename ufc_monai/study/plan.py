"""The plan of a study: every run with its commands, and what it needs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ufc_monai.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.commands.options import RunOptions, check_options, is_setting, training_configs
from ufc_monai.commands.stages import bundle_command
from ufc_monai.data.split import N_DRAWS
from ufc_monai.errors import InputError
from ufc_monai.files import read_json
from ufc_monai.study.arms import Arm, Clusters, find_arms

__all__ = ["FINE_TUNING", "Run", "StudyOptions", "plan_runs", "trimmed", "volumes_of"]

FEATURES, CLUSTERS, SHUFFLE = "features", "clusters", "clusters dealt anew"
PRETRAINING, PROBE, FINE_TUNING = "pretraining", "linear probe", "fine-tuning and test"
LIKE_STAGE_3 = ("features", "norm", "image_size")
"""Keys of stage 3 that an encoder has to share; ``vae_init`` takes them over."""


@dataclass(frozen=True)
class StudyOptions:
    """What a study compares.

    Attributes:
        dataset_dir: folder of the data set.
        folder: of the study; it becomes self-contained.
        bundles: where the three bundles are copied from.
        methods: names of arms, see :func:`find_arms`.
        budgets: label budgets: numbers of volumes, or shares such as ``"5%"`` of a fold's labelled training volumes.
        folds: how many; ``None`` is all.
        seeds: pretraining seeds; fine-tuning has the same.
        draws: how many label draws each seed goes with; ``None`` pairs seed s with draw s.
        init_seeds: fine-tuning seeds of the first fold, seed and draw, for the noise of initialisation alone.
        clusterings: further arms, see :func:`find_arms`.
        preset: as that of ``run``; several stand with ``+`` between them.
        keys: keys that are handed to every configuration that has them.
        overrides: keys of one bundle's training, by the bundle's name.
    """

    dataset_dir: Path
    folder: Path
    bundles: Path
    methods: tuple[str, ...]
    budgets: tuple[str, ...]
    folds: int | None = None
    seeds: int = 1
    draws: int | None = None
    init_seeds: int = 1
    clusterings: tuple[str, ...] = ()
    preset: str = "cpu"
    keys: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def for_run(self, **changes: Any) -> RunOptions:
        """The options of one chain of stages."""
        shared = {"preset": self.preset, "keys": self.keys, "overrides": self.overrides}
        return RunOptions(self.dataset_dir, self.folder, self.bundles, **{**shared, **changes})

    def repeats(self) -> list[tuple[int, int]]:
        """Pairs of seed and label draw."""
        if self.draws is None:
            return [(seed, seed % N_DRAWS) for seed in range(self.seeds)]
        return [(seed, draw) for draw in range(self.draws) for seed in range(self.seeds)]


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        name: of its folder below ``runs``.
        kind: what it does.
        commands: one after the other, in the study's folder; none to deal pseudo-labels anew.
        records: the ``run.json`` of each command, relative to the study's folder; complete, they make the run so.
        needs: names of the runs whose files it reads.
        fold: which quarter of the labelled patients is tested.
        method: name of the arm.
        budget: as given.
        volumes: the label budget in volumes.
        draw: which order grants the labels.
        seed: of pretraining.
        init_seed: of fine-tuning.
        counts: whether the tables count it; other runs tell the noise of initialisation.
    """

    name: str
    kind: str
    commands: tuple[tuple[str, ...], ...]
    records: tuple[str, ...]
    needs: tuple[str, ...] = ()
    fold: int = 0
    method: str | None = None
    budget: str | None = None
    volumes: int | None = None
    draw: int | None = None
    seed: int | None = None
    init_seed: int | None = None
    counts: bool = True

    @property
    def folder(self) -> str:
        """Its folder, relative to the study's."""
        return f"runs/{self.name}"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        """The run as ``study.json`` holds it."""
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        lists = {key: tuple(known[key]) for key in ("records", "needs")}
        return cls(**{**known, **lists, "commands": tuple(map(tuple, known["commands"]))})


def plan_runs(options: StudyOptions, split: Mapping[str, Any]) -> list[Run]:
    """Every run of a study, each behind those that it needs.

    All arms have the same labels, steps and seeds; what several runs need is done once: the features of a fold, each
    clustering of them, and one pretraining per fold, method and seed.

    Args:
        options: what to compare.
        split: the content of ``split.json``.

    Raises:
        InputError: at an option that does not fit the data set or the bundles.
    """
    _check(options, split)
    plan, arms = _Planner(options), find_arms(options.methods, options.clusterings, options.bundles)
    folds = range(len(split["folds"]) if options.folds is None else options.folds)
    budgets = [(fold, {b: volumes_of(b, split, fold) for b in options.budgets}) for fold in folds]
    # a study that is stopped early has all arms of the first repeats, not all repeats of the first arms
    for (seed, draw), (fold, volumes), arm in itertools.product(options.repeats(), budgets, arms):
        for budget, n in volumes.items():
            plan.add_fine_tuning(arm, fold, budget, n, (seed, draw, seed), counts=True)
    seed, draw = options.repeats()[0]
    for init_seed, arm in itertools.product(range(1, options.init_seeds), arms):
        for budget, n in budgets[0][1].items():
            plan.add_fine_tuning(arm, 0, budget, n, (seed, draw, init_seed), counts=False)
    return list(plan.runs.values())


def volumes_of(budget: str, split: Mapping[str, Any], fold: int) -> int:
    """A label budget in volumes.

    Raises:
        InputError: if it is neither a number nor a share, or the fold has not as many.
    """
    most = len(split["folds"][fold]["label_orders"][0])
    try:
        share = float(budget.removesuffix("%")) / 100 if budget.endswith("%") else None
        volumes = int(budget) if share is None else max(1, math.floor(share * most + 0.5))
    except ValueError as e:
        raise InputError(f"--budgets: expected numbers of volumes, or shares such as 5%, got {budget!r}.") from e
    if not 1 <= volumes <= most:
        raise InputError(f"--budgets: fold {fold} has {most} labelled training volumes, got {budget}.")
    return volumes


def trimmed(options: StudyOptions, split: Mapping[str, Any]) -> Iterator[tuple[str, StudyOptions]]:
    """Smaller and smaller studies: fewer seeds first, then draws and folds, then budgets, the last named first.

    Args:
        options: of the whole study.
        split: the content of ``split.json``.

    Yields:
        What was taken away since the one before, and the options.
    """
    options = replace(options, folds=options.folds or len(split["folds"]))
    for name in ("init_seeds", "seeds", "draws", "folds"):
        for fewer in range((getattr(options, name) or 1) - 1, 0, -1):
            change: dict[str, Any] = {name: fewer}
            options = replace(options, **change)
            yield f"{name} {fewer}", options
    for left in range(len(options.budgets) - 1, 0, -1):
        options = replace(options, budgets=options.budgets[:left])
        yield f"budgets {','.join(options.budgets)}", options


class _Planner:
    """Collects the runs of a study by name, so that what is shared comes once."""

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self.dataset_dir = str(options.dataset_dir.resolve())
        self.runs: dict[str, Run] = {}

    def add_fine_tuning(
        self, arm: Arm, fold: int, budget: str, volumes: int, seeds: tuple[int, int, int], counts: bool
    ) -> None:
        seed, draw, init_seed = seeds
        # random weights have no seed of pretraining
        place = f"fold{fold}/{arm.name}" + (f"/seed{seed}" if arm.bundle else "")
        name = f"{place}/n{budget.replace('%', 'percent')}_draw{draw}_init{init_seed}"
        pretrained = self._pretraining(arm, fold, seed, f"{place}/pretraining") if arm.bundle else None
        where = f"runs/{name}"
        keys = {
            "fold": fold,
            "labelled_volumes": volumes,
            "label_draw": draw,
            "seed": init_seed,
            "pretrained_path": f"runs/{pretrained}/models/model.pt" if pretrained else "none",
        }
        train = self._command(UNET, training_configs(self.options.for_run(), UNET), f"{where}/train", where, keys)
        test = self._command(UNET, ["train", "evaluate"], f"{where}/test", where, {})
        run = Run(
            name, FINE_TUNING, (train, test), (f"{where}/train/run.json", f"{where}/test/run.json"),
            (pretrained,) if pretrained else (), fold, arm.name, budget, volumes, draw, seed, init_seed, counts,
        )  # fmt: skip
        if counts or name not in self.runs:
            self.runs[name] = run

    def _pretraining(self, arm: Arm, fold: int, seed: int, name: str) -> str:
        if name in self.runs:
            return name
        where = f"runs/{name}"
        keys: dict[str, Any] = {"fold": fold, "seed": seed}
        if arm.bundle == VAE:
            train, *presets = training_configs(self.options.for_run(), VAE)
            configs = [train, *arm.configs, *presets]
            theirs = self.options.overrides.get(UNET, {})
            keys |= {key: theirs[key] for key in LIKE_STAGE_3 if key in theirs}
            needs: tuple[str, ...] = ()
        else:
            configs = training_configs(self.options.for_run(method="+".join(arm.configs)), CONTRASTIVE)
            needs = (self._clusters(arm.clusters, fold, seed),) if arm.clusters else ()
            if needs:
                keys["pseudo_labels_path"] = f"runs/{needs[0]}/pseudo_labels.json"
        command = self._command(str(arm.bundle), configs, f"{where}/train", where, keys)
        records = (f"{where}/train/run.json",)
        self.runs[name] = Run(name, PRETRAINING, (command,), records, needs, fold, arm.name, seed=seed)
        if arm.bundle == CONTRASTIVE and "isic" not in self.options.preset.split("+"):  # every picture shows a lesion
            self._probe(arm, fold, seed, name)
        return name

    def _probe(self, arm: Arm, fold: int, seed: int, pretraining: str) -> None:
        name = f"{pretraining.rpartition('/')[0]}/probe"
        command = self._command(CONTRASTIVE, ["probe"], f"runs/{name}", f"runs/{pretraining}", {})
        records = (f"runs/{name}/run.json",)
        self.runs[name] = Run(name, PROBE, (command,), records, (pretraining,), fold, arm.name, seed=seed)

    def _clusters(self, clusters: Clusters, fold: int, seed: int) -> str:
        features = self._features(fold)
        name = f"fold{fold}/{clusters.name}"
        command = self._command(VAE, clusters.configs, f"runs/{name}", f"runs/{features}", clusters.keys)
        self.runs[name] = Run(name, CLUSTERS, (command,), (f"runs/{name}/run.json",), (features,), fold)
        if not clusters.shuffled:
            return name
        dealt = f"{name}_random_seed{seed}"
        self.runs[dealt] = Run(dealt, SHUFFLE, (), (f"runs/{dealt}/run.json",), (name,), fold, seed=seed)
        return dealt

    def _features(self, fold: int) -> str:
        name = f"fold{fold}/features"
        where = f"runs/{name}"
        configs = training_configs(self.options.for_run(), VAE)
        command = self._command(VAE, configs, f"{where}/train", where, {"fold": fold})
        self.runs[name] = Run(name, FEATURES, (command,), (f"{where}/train/run.json",), (), fold)
        return name

    def _command(
        self, bundle: str, configs: Sequence[str], output_dir: str, weights: str, keys: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """A command with keys of the study, of the bundle's training, and of the run; the later win."""
        known = read_json(self.options.bundles / bundle / "configs" / f"{configs[0]}.json", "--bundles")
        common = {key: value for key, value in self.options.keys.items() if is_setting(known, key)}
        if configs[-1] == "evaluate":  # which takes everything else from network.json
            common = {key: value for key, value in common.items() if key == "threads"}
        trains = configs[0] == "train" and configs[-1] != "evaluate"
        training = self.options.overrides.get(bundle, {}) if trains else {}
        places = {"split_path": "split.json", "cache_dir": "cache", "output_dir": output_dir}
        places["ckpt_dir"] = f"{weights}/models"
        return bundle_command(bundle, configs, self.dataset_dir, {**common, **training, **keys, **places})


def _check(options: StudyOptions, split: Mapping[str, Any]) -> None:
    check_options(options.for_run())
    for name in [] if options.preset in ("paper", "auto") else options.preset.split("+"):
        if not any((options.bundles / bundle / "configs" / f"{name}.json").is_file() for bundle in BUNDLES):
            raise InputError(f"--preset: there is no {name}.json in {options.bundles / UNET / 'configs'}.")
    folds = split["folds"]
    if not folds[0]["test"]:
        n = len(folds[0]["training"])
        raise InputError(
            f"not measurable with {n} labelled volumes: a study tests on patients that nothing was trained on, which "
            "takes 4 labelled patients or more."
        )
    for name, most in (("folds", len(folds)), ("seeds", 99), ("draws", N_DRAWS), ("init_seeds", 99)):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= most:
            raise InputError(f"--{name} must be 1 to {most} for this data set, got {value}.")
    if len(set(options.budgets)) < len(options.budgets) or not options.budgets:
        raise InputError(f"--budgets: name each budget once, e.g. 1,2,4; got {','.join(options.budgets)}.")
