"""``run``: all stages on your own data, in order, each started by the command that a user would type."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.chain import SPLIT, Stage
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, files_below, sha256_of
from ufc_monai.base.lock import at_work
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.planning.estimate import estimate_stages, known_ignore_id, known_labels, least_memory, read_volumes
from ufc_monai.planning.memory import refuse_too_little
from ufc_monai.planning.options import RunOptions, open_config, open_split_of, usable_cases
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.process import run_stage
from ufc_monai.planning.stages import Ledger, digest, refuse_changes, shown
from ufc_monai.planning.tables import estimate_table, standing_against
from ufc_monai.planning.tracking import track_report
from ufc_monai.report.run import write_report
from ufc_monai.report.summary import run_summary

logger = logging.getLogger(__name__)

SAMPLED = 4
"""Volumes that are read for the estimate once all of the data set has been checked."""


def run_all(options: RunOptions) -> None:
    """Run every stage that is not complete, then write the report and the summary.

    Args:
        options: what to do.

    Raises:
        InputError: if the data set or an option does not fit, or a stage fails.
    """
    began = time.monotonic()
    cases = usable_cases(options)
    run_stages(options, cases, plan_stages(options, cases))
    report = options.folder / "report.html"
    write_report(options.folder, report)
    if options.tracking:
        track_report(options.folder, report)
    logger.info("\n%s", run_summary(options.folder))
    logger.info("report: %s\n%.0f s in all", report, time.monotonic() - began)


def run_stages(options: RunOptions, cases: Sequence[Case], stages: Sequence[Stage]) -> None:
    """Run those stages that are not complete.

    Args:
        options: of the run.
        cases: all volumes.
        stages: in order.

    Raises:
        InputError: if the folder belongs to another data set, another run is at work there, or a stage fails.
    """
    with at_work(options.folder / "run.lock") as lock:
        split = options.folder / SPLIT
        if split.is_file():
            open_split_of(options, split)  # refuses other files, as every stage would
        if not options.replace:
            refuse_changes(options.folder, options.bundles, stages)
        copy_bundles(options.bundles, options.folder)
        options = replace(options, bundles=options.folder)
        images, labels = data_digests(options, cases)
        ledger = Ledger(options.folder, images, labels, _with_test_images(options, images))
        logger.info("cd %s", shlex.quote(str(options.folder)))
        if options.estimate and not all(map(ledger.is_complete, stages)):
            _look_first(options, cases, stages, everything=not ledger.is_complete(stages[0]))
        for number, stage in enumerate(stages, start=1):
            done = ledger.is_complete(stage)
            goes_on = stage.config == "train" and ledger.is_begun(stage)
            note = " (complete, skipped)" if done else " (goes on)" if goes_on else ""
            logger.info("\n# %d of %d, %s%s\n%s", number, len(stages), stage.title, note, shown(stage.words))
            if not done:
                ledger.begin(stage, goes_on)
                run_stage(stage, options.folder, goes_on, lock)
                ledger.complete(stage)


def copy_bundles(bundles: Path, folder: Path) -> None:
    """Copy the bundles' files where they are missing; files that the user has changed in the copy stay."""
    for name in BUNDLES:
        for source in files_below(bundles / name, "LICENSE", "configs/**/*", "docs/**/*", key="--bundles"):
            copy = folder / name / source.relative_to(bundles / name)
            if not copy.is_file():
                with atomic_path(copy) as temporary:
                    shutil.copyfile(source, temporary)
            elif copy.read_bytes() != source.read_bytes():
                logger.warning("%s differs from %s and is used as it is; delete it to use the latter", copy, source)


def data_digests(options: RunOptions, cases: Sequence[Case]) -> tuple[str, str]:
    """One sha256 of all images and their patients, and one of all labels and the names of their ids."""
    names = [name for case in cases for name in (case.image, case.label) if name]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda name: sha256_of(options.dataset_dir / name), names)
        hashes = dict(
            zip(names, tqdm(found, "hashing", len(names), unit="file", leave=False, disable=None), strict=True)
        )
    images = {case.image: " ".join(filter(None, (hashes[case.image], case.patient, case.role))) for case in cases}
    labels = {case.image: hashes[case.label] for case in cases if case.label}
    labels |= {
        f"class {n}": f"{name} {i}" for n, (name, i) in enumerate((known_labels(options) or {}).items(), start=1)
    }
    if (ignored := known_ignore_id(options)) is not None:
        labels["ignore"] = str(ignored)
    return digest(images), digest(labels)


def _with_test_images(options: RunOptions, images_sha256: str) -> str:
    """One sha256 of all images, those of the test set included, which are segmented too."""
    found = find_cases(options.dataset_dir, include_test_images=True)
    hashes = {case.image: sha256_of(options.dataset_dir / case.image) for case in found if case.of_test_set}
    return digest({"images": images_sha256, **hashes}) if hashes else images_sha256


def _look_first(options: RunOptions, cases: Sequence[Case], stages: Sequence[Stage], everything: bool) -> None:
    """Say how long the trainings will take; before the first of them, refuse what ``check`` would refuse."""
    facts = look_at_data(options, cases, everything, names=any(stage.reads_labels for stage in stages))
    begun = {stage.bundle for stage in stages}
    estimates = [e for e in estimate_stages(options, cases, facts) if e.bundle in begun]
    logger.info("on %s, about\n%s", estimates[0].device, "\n".join(estimate_table(estimates)))
    need, less = least_memory(estimates, cases, facts)
    refuse_too_little(need, less=less)


def look_at_data(options: RunOptions, cases: Sequence[Case], everything: bool, names: bool = True) -> list[VolumeFacts]:
    """What the volumes are like.

    Args:
        options: of the run.
        cases: all volumes.
        everything: read all volumes; else only a few, for an estimate.
        names: whether the structures need names, because a stage reads the labels.

    Raises:
        InputError: if something has to be fixed first.
    """
    some = sorted({round(i * (len(cases) - 1) / (SAMPLED - 1)) for i in range(SAMPLED)})
    facts = read_volumes(options, cases if everything else [cases[i] for i in some])
    labels = known_labels(options) if names else {}
    if lines := standing_against(facts, labels, open_config(options, UNET)["background_labels"]):
        raise InputError("\n".join(["the data set has to be mended first (check shows all of it):", *lines]))
    return facts
