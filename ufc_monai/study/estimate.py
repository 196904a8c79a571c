"""How long a plan will take, from a short timing of each training."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE
from ufc_monai.base.files import found_json
from ufc_monai.data.case import Case
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.planning.estimate import StageEstimate, estimate_training, least_memory
from ufc_monai.planning.stages import options_of
from ufc_monai.report.markdown import aligned
from ufc_monai.study.arms import find_arms
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.runs import CLUSTERS, FEATURES, FINE_TUNING, PRETRAINING, PROBE, Run
from ufc_monai.training.log import duration

START = 8.0
"""Seconds that a program takes to start."""
RESTORED = 4.0
"""A test reads, restores and measures a volume in this many times the time to read it."""


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
    arms = {arm.name: arm for arm in find_arms(options.methods, options.clusterings, options.bundles)}
    labelled = sum(case.label is not None for case in cases)
    reading = labelled * statistics.median(f.seconds for f in facts if f.slices)
    beside = {FINE_TUNING: RESTORED * reading / 4, PROBE: reading, CLUSTERS: reading}
    timed: dict[tuple[str, str | None, int | None], StageEstimate] = {}
    seconds = {}
    for run in runs:
        taken = START * max(1, len(run.commands)) + beside.get(run.kind, 0.0)
        if run.kind in (FEATURES, PRETRAINING, FINE_TUNING):
            bundle = options_of(run.commands[0])["--bundle_root"]
            method = "+".join(arms[str(run.method)].configs) if bundle == CONTRASTIVE else None
            key = bundle, method, run.volumes
            if key not in timed:
                timed[key] = estimate_training(
                    replace(options, method=method, labelled=run.volumes), bundle, cases, facts
                )
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
