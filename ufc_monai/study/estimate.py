"""How long a plan will take, from a short timing of each training."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import CONTRASTIVE, UNET, VAE
from ufc_monai.base.files import found_json
from ufc_monai.data.case import Case
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.planning.estimate import StageEstimate, estimate_training, least_memory
from ufc_monai.report.markdown import aligned
from ufc_monai.study.arms import find_arms
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.runs import CLUSTERS, FEATURES, FINE_TUNING, PRETRAINING, PROBE, Run
from ufc_monai.training.log import duration

START = 8.0
"""Seconds that a program takes to start."""
RESTORED = 4.0
"""A test reads, restores and measures a volume in this many times the time to read it."""


@dataclass
class Estimator:
    """Seconds of every run of a plan; each kind of training is timed once, for a few seconds.

    Attributes:
        options: of the study.
        cases: all volumes.
        facts: of all or some of them.
    """

    options: StudyOptions
    cases: Sequence[Case]
    facts: Sequence[VolumeFacts]

    def __post_init__(self) -> None:
        self._timed: dict[tuple[str, str | None, int | None], StageEstimate] = {}
        found = find_arms(self.options.methods, self.options.clusterings, self.options.bundles)
        self._arms = {arm.name: arm for arm in found}

    def seconds(self, runs: Sequence[Run]) -> dict[str, float]:
        """About how long each run takes, by its name."""
        return {run.name: START * max(1, len(run.commands)) + self._beyond_start(run) for run in runs}

    def memory(self) -> tuple[int, str]:
        """Bytes of main memory that the largest run needs, of those that were timed, and what would need less."""
        return least_memory(self._timed.values(), self.cases, self.facts)

    def _beyond_start(self, run: Run) -> float:
        if run.kind == FEATURES:
            return self._training(VAE)
        if run.kind == PRETRAINING:
            arm = self._arms[str(run.method)]
            return self._training(str(arm.bundle), "+".join(arm.configs) if arm.bundle == CONTRASTIVE else None)
        labelled = sum(case.label is not None for case in self.cases)
        reading = labelled * statistics.median(f.seconds for f in self.facts if f.slices)
        if run.kind == FINE_TUNING:
            return self._training(UNET, labelled=run.volumes) + RESTORED * reading / 4
        return reading if run.kind in (PROBE, CLUSTERS) else 0.0

    def _training(self, bundle: str, method: str | None = None, labelled: int | None = None) -> float:
        key = (bundle, method, labelled)
        if key not in self._timed:
            options = replace(self.options, method=method, labelled=labelled)
            self._timed[key] = estimate_training(options, bundle, self.cases, self.facts)
        return self._timed[key].seconds


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
