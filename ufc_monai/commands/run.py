"""``run``: all stages on your own data, in order, each started by the command that a user would type."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.chain import FINE_TUNING, PROBE, SPLIT
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, files_below, sha256_of, write_json
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work
from ufc_monai.base.machine import refuse_too_little
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import account, find_cases
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.planning.clock import Clock
from ufc_monai.planning.estimate import (
    estimate_stages,
    known_labels,
    least_memory,
    read_volumes,
    refuse_days,
)
from ufc_monai.planning.options import ChainOptions, RunOptions, open_config, open_split_of, usable_cases
from ufc_monai.planning.plan import plan_stages, track_report
from ufc_monai.planning.rounds import digest, known_to_round, refuse_other_options, round_to_do
from ufc_monai.planning.stages import BEGUN, COMPLETE, Step, shown
from ufc_monai.planning.tables import estimate_table, standing_against
from ufc_monai.report.page import without_outer_links
from ufc_monai.report.rounds import read_rounds, rounds_text
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
    clock, run = Clock(), options.folder
    cases = usable_cases(options)
    logger.info("%s", "\n".join(account(options.dataset_dir)))
    options = round_to_do(options, cases)
    steps = plan_stages(options, cases)
    if options.folder != run:  # the probe of the first round stands: it judges the encoder
        steps = [step for step in steps if step.title != PROBE.title]
    run_stages(options, cases, steps, clock)
    report = run / "report.html"
    write_report(options.folder, report)
    if options.tracking:
        track_report(options.folder, report)
    logger.info("\n%s", run_summary(options.folder))
    if rounds := read_rounds(run):
        logger.info("rounds of labelling\n%s", rounds_text(rounds))
    clock.lap("report")
    logger.info("\n%s", clock.table())
    logger.info("report: %s", report)


def run_stages(options: RunOptions, cases: Sequence[Case], steps: Sequence[Step], clock: Clock | None = None) -> None:
    """Run those stages that are not complete.

    Args:
        options: of the run.
        cases: all volumes.
        steps: in order.
        clock: is told what each took.

    Raises:
        InputError: if the folder belongs to another data set, another run is at work there, or a stage fails.
    """
    folder = options.folder
    if (folder / "study.lock").exists():
        raise InputError(f"--folder: {folder} holds a study. Name another for the run.")
    with at_work(folder / "run.lock") as lock, Host(folder, lock, folder / "log.txt") as host:
        if (folder / SPLIT).is_file():
            open_split_of(options, folder / SPLIT)  # refuses other files, as every stage would
        if not options.replace:
            refuse_other_options(folder, options.bundles, steps)
        copy_bundles(options.bundles, folder)
        options = replace(options, bundles=folder)
        everything = find_cases(options.dataset_dir, include_test_images=True)
        data = data_digests(options, cases, [case for case in everything if case.of_test_set])
        logger.info("cd %s", shlex.quote(str(folder)))
        to_come = [step for step in steps if step.state(folder, data) != COMPLETE]
        if options.estimate and to_come:
            _look_first(options, cases, to_come, everything=steps[0] in to_come)
        clock = clock or Clock()
        clock.lap("looking at the data")
        for number, step in enumerate(steps, start=1):
            state = step.state(folder, data)
            note = {COMPLETE: " (complete, skipped)", BEGUN: " (goes on)"}.get(state, "")
            logger.info("\n# %d of %d, %s%s\n%s", number, len(steps), step.title, note, shown(step.command))
            if state == COMPLETE:
                continue
            if "labels" in step.reads:
                known = _same_labels(options, cases, data["labels"])
                if step.title == FINE_TUNING.title:  # until now the file tells of the fine-tuning before
                    write_json(folder / "labels.json", known)
            if code := step.run(host, data, goes_on=state == BEGUN):
                raise InputError(
                    f"'{step.title}' ended with exit code {code}; its message stands above. Mend it and run the same "
                    "command again: complete stages are skipped, a training goes on."
                )
            if lacking := step.lacking(folder):
                raise InputError(f"'{step.title}' ended without writing {', '.join(lacking)} in {folder}.")
            clock.lap(step.title, folder / step.record)


def _same_labels(options: ChainOptions, cases: Sequence[Case], before: str) -> dict[str, Any]:
    """What is known of the labels now, see :func:`known_to_round`; every stage of a run has to find the same."""
    images = {case.image for case in cases}
    found = find_cases(options.dataset_dir, options.include_test_images)
    known = known_to_round(options, [case for case in found if case.image in images])
    if digest([*known.values()]) != before:
        raise InputError(
            f"--dataset_dir: labels in {options.dataset_dir} have changed while the run was at work. Put them back to "
            "go on as before, or give the same command again as they are."
        )
    return known


def copy_bundles(bundles: Path, folder: Path) -> None:
    """Copy the bundles' files where they are missing, pages without links that lead out of the bundle.

    Files that the user has changed in the copy stay.
    """
    for name in BUNDLES:
        for source in files_below(bundles / name, "LICENSE", "configs/**/*", "docs/**/*", key="--bundles"):
            copy = folder / name / source.relative_to(bundles / name)
            content = source.read_bytes()
            copied = without_outer_links(content) if source.suffix == ".md" else content
            if not copy.is_file():
                with atomic_path(copy) as temporary:
                    temporary.write_bytes(copied)
            elif copy.read_bytes() not in (copied, content):
                logger.warning("%s differs from %s and is used as it is; delete it to use the latter", copy, source)


def data_digests(options: ChainOptions, cases: Sequence[Case], test: Sequence[Case] = ()) -> dict[str, str]:
    """A sha256 of each part of a data set.

    Args:
        options: of the run or study.
        cases: all volumes.
        test: those of the test set, which are segmented, too.

    Returns:
        ``images``, with whose they are; ``labels``, with what their ids are called; ``test_images``.
    """
    names = [c.image for c in (*cases, *test)]
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda name: sha256_of(options.dataset_dir / name), names)
        bar = tqdm(found, "hashing", len(names), unit="file", leave=False, disable=None)
        hashes = dict(zip(names, bar, strict=True))
    parts = {
        "images": {c.image: [hashes[c.image], c.patient, c.role] for c in cases},
        "labels": [*known_to_round(options, cases).values()],
        "test_images": {c.image: hashes[c.image] for c in test},
    }
    return {part: digest(content) for part, content in parts.items()}


def _look_first(options: RunOptions, cases: Sequence[Case], steps: Sequence[Step], everything: bool) -> None:
    """Say how long the trainings among some steps will take; refuse first what ``check`` would refuse."""
    facts = look_at_data(options, cases, everything, names=any("labels" in step.reads for step in steps))
    to_come = {step.title for step in steps}
    if estimates := [e for e in estimate_stages(options, cases, facts) if e.stage in to_come]:
        logger.info("on %s, about\n%s", estimates[0].device, "\n".join(estimate_table(estimates)))
    need, less = least_memory(estimates, cases, facts)
    refuse_too_little(need, less=less)
    if not options.yes:
        refuse_days(estimates)


def look_at_data(
    options: ChainOptions, cases: Sequence[Case], everything: bool, names: bool = True
) -> list[VolumeFacts]:
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
    new = (options.split or {}).get("added", ())  # labels that nobody has looked at yet
    looked_at = [c for i, c in enumerate(cases) if everything or i in some or c.image in new]
    facts = read_volumes(options, looked_at)
    labels = known_labels(options) if names else {}
    if lines := standing_against(facts, labels, open_config(options, UNET)["background_labels"]):
        raise InputError("\n".join(["the data set has to be mended first (check shows all of it):", *lines]))
    return facts
