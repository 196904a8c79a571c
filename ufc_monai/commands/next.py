"""``next``: which volumes to label, or to correct, next."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ufc_monai.base.bundles import CONTRASTIVE, VAE, features
from ufc_monai.base.chain import CLUSTERS, LABELS, MASKS, QUALITY, VAE_TRAINING, record_of, standing_record
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of, write_json
from ufc_monai.base.rounds import newest_round, place_in
from ufc_monai.clustering.coverage import choose_volumes, cluster_histograms
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands.arguments import KEYS, value_of
from ufc_monai.commands.run import run_stages
from ufc_monai.planning.options import RunOptions, usable_cases
from ufc_monai.planning.plan import plan_clusters
from ufc_monai.planning.stages import named_configs
from ufc_monai.report.clusters import save_coverage
from ufc_monai.report.page import aligned
from ufc_monai.report.quality import read_quality

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """What a strategy has chosen.

    Attributes:
        images: in order.
        columns: what is said of each, by title.
        content: what ``selection_STRATEGY.json`` says more.
    """

    images: list[str]
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    content: Mapping[str, Any] = field(default_factory=dict)


def next_volumes(options: RunOptions, budget: int, strategy: str = "coverage") -> Path:
    """Name the volumes that are best labelled next.

    Those of validation and test patients take no part, since nothing may be chosen by them. Where stage 1 has not run
    in the folder, it runs first.

    Args:
        options: of the run; those that are not given are as stage 1 was run with. Without any that it has, clusters
            that stand are taken as they are.
        budget: how many volumes to name.
        strategy: ``"coverage"`` names those that together, and with the labelled ones, cover the clusters best;
            ``"quality"`` those whose masks are probably worst; ``"random"`` any, by ``seed``.

    Returns:
        ``selection_STRATEGY.json``, or ``selection_STRATEGY_1.json`` of ``rounds/1``; beside it lies a picture of what
        is covered.

    Raises:
        InputError: if the data set or an option does not fit, a stage fails, there are not as many volumes, or no masks
            have been judged for a strategy that goes by them.
    """
    newest = newest_round(options.folder)
    target = place_in(options.folder, f"selection_{strategy}.json")
    asked_for = options.overrides or options.keys.keys() - {"seed"} or options.preset != "auto" or options.features
    seed, picture = options.keys.get("seed", 0), target.with_suffix(".png")
    options = as_recorded(replace(options, folder=newest))
    cases = usable_cases(options)
    _check_budget(budget, sum(not case.label for case in cases), options.dataset_dir)
    if asked_for or options.replace or not standing_record(options.folder, CLUSTERS):
        run_stages(options, cases, plan_clusters(options, cases))
    path, has_label = options.folder / LABELS, {case.image for case in cases if case.label}
    labels = PseudoLabels.load(path)
    images = sorted(labels.clusters)
    left = [image for image in images if image not in has_label]
    _check_budget(budget, len(left), path)
    dice = _predicted_dice(options.folder, left) if strategy == "quality" else {}
    found = choose(strategy, labels, has_label, budget, dice, seed=seed, picture=picture)
    about = {"format": 1, "strategy": strategy, "chosen": found.images, **found.content}
    about["labelled_before"] = [image for image in images if image in has_label]
    write_json(target, {**about, "pseudo_labels": {"path": path.as_posix(), "sha256": sha256_of(path)}})
    rows = zip(found.images, *found.columns.values(), strict=True)
    logger.info("%s\n%s", aligned([["label next", *found.columns], *map(list, rows)]), target)
    return target


def as_recorded(options: RunOptions) -> RunOptions:
    """Options of stage 1 that are not given, as ``run`` has recorded them in the folder."""
    stages = (VAE_TRAINING, CLUSTERS)
    training, clusters = (record_of(options.folder, s).get("asked", {}).get("options", {}) for s in stages)
    if "--config_file" not in training:
        return options
    configs = [Path(name).stem for name in named_configs(training)][1:]
    laid = [name for name in configs if name in features(options.bundles)]
    presets = [name for name in configs if name not in laid]
    recorded = {name.removeprefix("--"): value_of(value) for name, value in {**clusters, **training}.items()}
    own = {name.removeprefix("--") for name in training} - {"config_file", "bundle_root", "dataset_dir", *KEYS}
    overrides: dict[str, dict[str, Any]] = {VAE: {key: recorded[key] for key in own}}
    if "--batch_size" in clusters:
        overrides[CONTRASTIVE] = {"batch_size": value_of(clusters["--batch_size"])}
    for bundle, given in options.overrides.items():
        overrides[bundle] = {**overrides.get(bundle, {}), **given}
    return replace(
        options,
        preset=("+".join(presets) or "gpu") if options.preset == "auto" else options.preset,
        features=options.features or next(reversed(laid), None),
        keys={**{key: value for key, value in recorded.items() if key in KEYS}, **options.keys},
        overrides=overrides,
    )


def choose(
    strategy: str,
    labels: PseudoLabels,
    has_label: Collection[str],
    budget: int,
    dice: Mapping[str, float],
    *,
    seed: int = 0,
    picture: Path | None = None,
) -> Chosen:
    """Choose among the volumes of a clustering that have no label.

    Args:
        strategy: see :func:`next_volumes`.
        labels: the clusters.
        has_label: images that have one.
        budget: how many to choose.
        dice: predicted, of each image without a label; only ``"quality"`` goes by it.
        seed: of ``"random"``.
        picture: where what is covered is drawn, if the strategy covers.
    """
    left = [image for image in sorted(labels.clusters) if image not in has_label]
    if strategy == "random":
        return Chosen(np.random.default_rng(seed).permutation(left)[:budget].tolist())
    if strategy == "quality":
        worst = sorted(left, key=dice.__getitem__)[:budget]
        shown = [f"{dice[image]:.2f}" for image in worst]
        return Chosen(worst, {"predicted Dice": shown}, {"predicted_dice": [dice[image] for image in worst]})
    return _covering(labels, has_label, budget, picture)


def _covering(labels: PseudoLabels, has_label: Collection[str], budget: int, picture: Path | None) -> Chosen:
    """Cover the clusters of all volumes."""
    images = sorted(labels.clusters)
    labelled = [i for i, image in enumerate(images) if image in has_label]
    histograms = cluster_histograms([labels.clusters[image] for image in images], labels.n_clusters)
    found = choose_volumes(histograms, budget, labelled=labelled)
    rows = {f"all {len(images)} volumes": histograms.mean(axis=0)}
    rows |= {f"labelled before ({len(labelled)})": histograms[labelled].mean(axis=0)} if labelled else {}
    rows |= {f"{n}. {images[i]}": histograms[i] for n, i in enumerate(found.chosen, start=1)}
    if picture:
        save_coverage(picture, rows, found.covered, found.random)
    chosen = [images[i] for i in found.chosen]
    columns = {"covered with it": found.covered, "as many at random": found.random}
    shown = {title: [f"{100 * share:.0f} %" for share in shares] for title, shares in columns.items()}
    return Chosen(chosen, shown, {"covered": found.covered, "covered_at_random": found.random})


def predicted_dice(quality: Path) -> dict[str, float]:
    """The predicted Dice of each scan of a ``quality.csv``: 1 where nothing was found, nor expected."""
    return {scan.scan: 1.0 if scan.dice is None else scan.dice for scan in read_quality(quality)}


def _predicted_dice(folder: Path, left: Sequence[str]) -> dict[str, float]:
    """The predicted Dice of each volume without a label.

    Raises:
        InputError: if one of them has no mask that was judged, or what made the masks is out of date.
    """
    dice = predicted_dice(folder / QUALITY) if standing_record(folder, MASKS) else {}
    if lacking := [image for image in left if image not in dice]:
        raise InputError(
            f"--strategy: {folder / QUALITY} is out of date, or says nothing of {lacking[0]}. Finish the run first, or "
            "take --strategy coverage, which needs no masks."
        )
    return {image: dice[image] for image in left}


def _check_budget(budget: int, left: int, where: Path) -> None:
    if not 1 <= budget <= left:
        raise InputError(f"--budget must be 1 to {left}, the volumes without labels in {where}; got {budget}.")
