"""``study``: does pretraining help, and with how few labels?"""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.lock import at_work
from ufc_monai.base.machine import refuse_too_little
from ufc_monai.commands.run import copy_bundles, data_digests, look_at_data
from ufc_monai.data.case import Case
from ufc_monai.data.split import make_split
from ufc_monai.planning.options import open_split_of, preset_of, usable_cases
from ufc_monai.planning.stages import COMPLETE, changes
from ufc_monai.study.execute import cluster, execute, threads
from ufc_monai.study.options import StudyOptions
from ufc_monai.study.plan import estimate_runs, measured_seconds, plan_runs, plan_table
from ufc_monai.study.report import write_study_report
from ufc_monai.study.runs import FAILED, Run, read_plan, write_plan
from ufc_monai.training.compute import check_device
from ufc_monai.training.log import duration

logger = logging.getLogger(__name__)

GROWS = "methods, clusterings, selection, budgets, folds, seeds, draws and init_seeds"
"""Options that may grow when a study goes on."""


def run_study(
    options: StudyOptions,
    *,
    jobs: int = 1,
    devices: Sequence[str] = (),
    scheduler: str | None = None,
    dry_run: bool = False,
) -> None:
    """Plan a study, or go on with it; then write its tables, figures and report.

    Args:
        options: what to compare.
        jobs: runs at once, on this machine.
        devices: to spread them over.
        scheduler: address of a Dask scheduler whose workers do the runs, instead of this machine.
        dry_run: show the plan, or what is left of the one in the folder, and start nothing.

    Raises:
        InputError: if an option or the data set does not fit, or is not that of the study in the folder; if another
            process is at work there; at the end, if runs have failed.
    """
    _check_places(options, jobs, devices, scheduler)
    if options.preset == "auto":  # resolved once, so that every command on the folder means the same
        options = replace(options, preset=preset_of(options))
    folder = options.folder.resolve()
    desk = _Desk(options, usable_cases(options), jobs, devices, scheduler is None, dry_run)
    with contextlib.nullcontext() if dry_run else at_work(folder / "study.lock"):
        if dry_run:
            return desk.announce(*desk.open())
        gpus = "cpu" not in options.preset.split("+")
        executor = cluster(folder, scheduler, gpus=gpus) if scheduler else threads(folder, jobs)
        with executor as submit:  # a cluster has to answer before the stages are timed
            runs, about = desk.open()
            desk.announce(runs, about)
            at_once = len(runs) if scheduler else jobs
            slots = [devices[i % len(devices)] if devices else None for i in range(at_once)]
            execute(folder, runs, submit, slots, lambda: write_plan(folder, runs, about))
        states = [run.state(folder) for run in runs]
        logger.info("%d of %d runs are complete", states.count(COMPLETE), len(runs))
        failed = [run for run, state in zip(runs, states, strict=True) if state == FAILED]
        for run in failed:
            logger.warning("failed: %s, see %s", run.name, folder / run.folder / "log.txt")
        write_study_report(folder, runs, about)
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} runs failed, see above. The same command tries them again.")


def _check_places(options: StudyOptions, jobs: int, devices: Sequence[str], scheduler: str | None) -> None:
    if (options.folder / "run.lock").exists():
        raise InputError(f"--folder: {options.folder} holds a run. Name another for the study.")
    if jobs < 1:
        raise InputError(f"--jobs must be 1 or more, got {jobs}.")
    if scheduler and (jobs > 1 or devices):
        raise InputError(
            "--scheduler: the cluster's workers set how much runs at once: leave out --jobs and --devices."
        )
    if scheduler and options.preset == "auto":
        raise InputError("--preset: name it for a --scheduler, e.g. gpu; auto would look for a GPU on this machine.")
    for device in devices:
        check_device(device)


@dataclass
class _Desk:
    """Makes a plan, or checks that an old one fits."""

    options: StudyOptions
    cases: Sequence[Case]
    jobs: int
    devices: Sequence[str]
    local: bool
    dry_run: bool

    def open(self) -> tuple[list[Run], dict[str, Any]]:
        """The plan, which the study's folder has or gets, and the rest of its file.

        Raises:
            InputError: if the folder holds a study of other data or with other options.
        """
        folder = self.options.folder
        there, about = read_plan(folder) if (folder / "study.json").is_file() else ([], {})
        if self.dry_run and not about:
            runs = plan_runs(self.options, make_split(self.cases, seed=0), self.cases)
            return runs, self._timing(runs, everything=False)
        split = open_split_of(self.options, folder / "split.json")
        copy_bundles(self.options.bundles, folder)
        self.options = replace(self.options, bundles=folder)
        runs, now = plan_runs(self.options, split.content, self.cases), self._about(split.sha256)
        if about:
            _refuse_changes(folder, there, runs, about["data"], now["data"])
        if about.get("options") == now["options"]:
            return runs, about
        if about:
            logger.info("%d runs join the study", len(runs) - len(there))
        # timed anew when a study grows: there are new kinds of runs
        now |= self._timing(runs, everything=not about)
        if not self.dry_run:
            write_plan(folder, runs, now)
        return runs, now

    def announce(self, runs: Sequence[Run], about: Mapping[str, Any]) -> None:
        """Say what is left of a plan, and how long it will take.

        Raises:
            InputError: if there is too little memory for it.
        """
        folder = self.options.folder
        rest = [run for run in runs if run.state(folder) != COMPLETE]
        if not rest:
            logger.info("all %d runs are complete", len(runs))
            return
        if self.local:
            refuse_too_little(about["memory_bytes"], self.jobs)
        seconds = measured_seconds(folder, runs, about["estimated_seconds"])
        logger.info(plan_table(rest, seconds))
        left = f"{len(rest)} of {len(runs)} runs are left" if len(rest) < len(runs) else f"{len(runs)} runs"
        taken = sum(seconds[run.name] for run in rest) / self.jobs
        logger.info("%s: about %s with %d at once", left, duration(taken), self.jobs)
        if self.dry_run:
            logger.info("\n".join(f"{run.name}: {run.kind}" for run in rest))
        logger.info("cd %s", shlex.quote(str(folder)))

    def _timing(self, runs: Sequence[Run], *, everything: bool) -> dict[str, Any]:
        """What ``study.json`` keeps of the time and memory that runs take."""
        logger.info("timing the stages")
        facts = look_at_data(self.options, self.cases, everything)
        device = {"device": self.devices[0]} if self.devices else {}
        options = replace(self.options, keys={**self.options.keys, **device})
        seconds, memory, less = estimate_runs(options, self.cases, facts, runs)
        if self.local:
            refuse_too_little(memory, self.jobs, less)
        return {"estimated_seconds": seconds, "memory_bytes": memory}

    def _about(self, split_sha256: str) -> dict[str, Any]:
        chosen = {name: value for name, value in vars(self.options).items() if not isinstance(value, Path)}
        return {
            "data_set": self.options.dataset_dir.resolve().name,
            "options": json.loads(json.dumps(chosen)),  # as they will be read again
            "data": {**data_digests(self.options, self.cases), "split": split_sha256},
        }


def _refuse_changes(
    folder: Path, there: Sequence[Run], runs: Sequence[Run], was: Mapping[str, str], now: Mapping[str, str]
) -> None:
    """A study may grow; what it has begun may not change or fall away."""
    changed = [f"the content of the {part}" for part in now if was[part] != now[part]]
    changed += changes(folder, folder, (step for run in runs for step in run.steps))
    planned = {run.name for run in runs}
    begun = [run.name for run in there if any((folder / record).is_file() for record in run.records)]
    changed += [f"{name} there / left out" for name in begun if name not in planned]
    if changed:
        raise InputError(
            f"--folder: {folder} holds a study with other options (then / now): {', '.join(changed[:4])}. Put them "
            f"back, or take a new --folder; in the old one {GROWS} may grow, and nothing else may change."
        )
