"""The plan of a study: every run with its commands, and what it needs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ufc_monai.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.commands.options import stage_2_batch, training_configs
from ufc_monai.commands.plan import stage_command
from ufc_monai.commands.stages import config_path
from ufc_monai.study.arms import Arm, Clusters, find_arms
from ufc_monai.study.options import StudyOptions, check_study, volumes_of
from ufc_monai.study.runs import CLUSTERS, FEATURES, FINE_TUNING, PRETRAINING, PROBE, SELECTION, SHUFFLE, Run

__all__ = ["plan_runs"]

LIKE_STAGE_3 = ("features", "norm", "image_size")
"""Keys of stage 3 that an encoder has to share; ``vae_init`` takes them over."""


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
    check_study(options, split)
    plan, found = _Planner(options), find_arms(options.methods, options.clusterings, options.bundles)
    arms = [arm.covering() if how == "coverage" else arm for how in options.selection for arm in found]
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


class _Planner:
    """Collects the runs of a study by name, so that what is shared comes once."""

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self.dataset_dir = config_path(options.dataset_dir.resolve(), "--dataset_dir")
        self.batch = stage_2_batch(options.for_run())
        self.runs: dict[str, Run] = {}

    def add_fine_tuning(
        self, arm: Arm, fold: int, budget: str, volumes: int, seeds: tuple[int, int, int], counts: bool
    ) -> None:
        seed, draw, init_seed = seeds
        # random weights have no seed of pretraining
        place = f"fold{fold}/{arm.name}" + (f"/seed{seed}" if arm.bundle else "")
        granted = "coverage" if arm.covers else f"draw{draw}"
        name = f"{place}/n{budget.replace('%', 'percent')}_{granted}_init{init_seed}"
        pretrained = self._pretraining(arm, fold, seed, f"{place}/pretraining") if arm.bundle else None
        where = f"runs/{name}"
        keys = {
            "fold": fold,
            "labelled_volumes": volumes,
            "label_draw": draw,
            "seed": init_seed,
            "pretrained_path": f"runs/{pretrained}/models/model.pt" if pretrained else "none",
        }
        needs = [pretrained] if pretrained else []
        if arm.covers:
            needs.append(self._selection(fold))
            keys["label_order_path"] = f"runs/{needs[-1]}/selection.json"
        train = self._command(UNET, training_configs(self.options.for_run(), UNET), f"{where}/train", where, keys)
        test = self._command(UNET, ["train", "evaluate"], f"{where}/test", where, {})
        run = Run(
            name, FINE_TUNING, (train, test), (f"{where}/train/run.json", f"{where}/test/run.json"),
            tuple(needs), fold, arm.title, budget, volumes, draw, seed, init_seed, counts,
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
        command = self._command(
            VAE, clusters.configs, f"runs/{name}", f"runs/{features}", {**self.batch, **clusters.keys}
        )
        self.runs[name] = Run(name, CLUSTERS, (command,), (f"runs/{name}/run.json",), (features,), fold)
        if not clusters.shuffled:
            return name
        dealt = f"{name}_random_seed{seed}"
        self.runs[dealt] = Run(dealt, SHUFFLE, (), (f"runs/{dealt}/run.json",), (name,), fold, seed=seed)
        return dealt

    def _selection(self, fold: int) -> str:
        """The order in which the labelled training volumes cover the clusters."""
        name = f"fold{fold}/selection"
        needs = (self._clusters(Clusters(), fold, 0),)
        self.runs[name] = Run(name, SELECTION, (), (f"runs/{name}/run.json",), needs, fold)
        return name

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
        """A command with the keys of the study and of the run; the latter win."""
        places = {"split_path": "split.json", "cache_dir": "cache", "output_dir": output_dir}
        places["ckpt_dir"] = f"{weights}/models"
        return stage_command(self.options.for_run(), bundle, configs, self.dataset_dir, {**keys, **places})
