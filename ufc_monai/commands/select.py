"""``select``: which volumes to label first."""

from __future__ import annotations

import logging
from pathlib import Path

from ufc_monai.base.chain import LABELS
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of, write_json
from ufc_monai.clustering.coverage import choose_volumes, cluster_histograms
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.commands.run import run_stages
from ufc_monai.planning.options import RunOptions, usable_cases
from ufc_monai.planning.plan import plan_clusters
from ufc_monai.report.clusters import save_coverage
from ufc_monai.report.page import aligned

logger = logging.getLogger(__name__)


def select(options: RunOptions, budget: int) -> Path:
    """Name the volumes that together cover the clusters best.

    Labelled volumes count as covered and are not named; those of validation and test patients take no part, since
    nothing may be chosen by them. Stage 1 runs first where it has not.

    Args:
        options: of the run whose clusters are covered.
        budget: how many volumes to name.

    Returns:
        ``selection.json``; beside it lies ``selection.png``.

    Raises:
        InputError: if the data set or an option does not fit, a stage fails, or there are not as many volumes.
    """
    cases = usable_cases(options)
    _check_budget(budget, sum(not case.label for case in cases), options.dataset_dir)
    run_stages(options, cases, plan_clusters(options, cases))
    path = options.folder / LABELS
    labels = PseudoLabels.load(path)
    images, has_label = sorted(labels.clusters), {case.image for case in cases if case.label}
    labelled = [i for i, image in enumerate(images) if image in has_label]
    _check_budget(budget, len(images) - len(labelled), path)
    histograms = cluster_histograms([labels.clusters[image] for image in images], labels.n_clusters)
    found = choose_volumes(histograms, budget, labelled=labelled)
    chosen = [images[i] for i in found.chosen]
    target = options.folder / "selection.json"
    content = {
        "format": 1,
        "chosen": chosen,
        "covered": found.covered,
        "covered_at_random": found.random,
        "labelled_before": [images[i] for i in labelled],
        "pseudo_labels": {"path": path.as_posix(), "sha256": sha256_of(path)},
    }
    write_json(target, content)
    rows = {f"all {len(images)} volumes": histograms.mean(axis=0)}
    rows |= {f"labelled before ({len(labelled)})": histograms[labelled].mean(axis=0)} if labelled else {}
    rows |= {f"{n}. {images[i]}": histograms[i] for n, i in enumerate(found.chosen, start=1)}
    save_coverage(target.with_suffix(".png"), rows, found.covered, found.random)
    shares = zip(chosen, found.covered, found.random, strict=True)
    table = [[image, f"{100 * covered:.0f} %", f"{100 * random:.0f} %"] for image, covered, random in shares]
    logger.info(aligned([["label next", "covered with it", "as many at random"], *table]))
    logger.info("%s, beside it selection.png", target)
    return target


def _check_budget(budget: int, left: int, where: Path) -> None:
    if not 1 <= budget <= left:
        raise InputError(f"--budget must be 1 to {left}, the volumes without labels in {where}; got {budget}.")
