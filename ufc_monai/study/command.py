"""``study``: does pretraining help, and with how few labels?"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import sha256_of
from ufc_monai.base.lock import at_work
from ufc_monai.commands.run import copy_bundles, data_digests, look_at_data
from ufc_monai.data.case import Case
from ufc_monai.data.draw import make_split
from ufc_monai.planning.memory import refuse_too_little
from ufc_monai.planning.options import open_split_of, usable_cases
from ufc_monai.study.estimate import Estimator, measured_seconds, plan_table
from ufc_monai.study.execute import cluster, execute, threads
from ufc_monai.study.options import StudyOptions, trimmed
from ufc_monai.study.plan import plan_runs
from ufc_monai.study.report import write_study_report
from ufc_monai.study.runs import Run
from ufc_monai.study.state import COMPLETE, FAILED, read_plan, states_of, write_plan
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
    budget_minutes: float | None = None,
    dry_run: bool = False,
) -> None:
    """Plan a study, or go on with it; then write its tables, figures and report.

    Args:
        options: what to compare.
        jobs: runs at once, on this machine.
        devices: to spread them over.
        scheduler: address of a Dask scheduler whose workers do the runs, instead of this machine.
        budget_minutes: trim a new plan to what this time allows.
        dry_run: show the plan, or what is left of the one in the folder, and start nothing.

    Raises:
        InputError: if an option or the data set does not fit, or is not that of the study in the folder; if another
            process is at work there; at the end, if runs have failed.
    """
    _check_places(options, jobs, devices, scheduler)
    if options.preset == "auto":  # resolved once, so that every command on the folder means the same
        options = replace(options, preset="paper" if torch.cuda.is_available() else "cpu")
    desk = _Desk(options, usable_cases(options.for_run()), jobs, devices, scheduler is None, budget_minutes, dry_run)
    if dry_run:
        return desk.show()
    folder = options.folder.resolve()
    with at_work(folder / "study.lock"):
        gpus = "cpu" not in options.preset.split("+")
        executor = cluster(folder, scheduler, gpus=gpus) if scheduler else threads(folder, jobs)
        with executor as submit:  # a cluster has to answer before the stages are timed
            runs, about = desk.open()
            at_once = len(runs) if scheduler else jobs
            slots = [devices[i % len(devices)] if devices else None for i in range(at_once)]
            execute(folder, runs, submit, slots, lambda: write_plan(folder, runs, about))
        states = states_of(folder, runs)
        failed = [name for name, state in states.items() if state == FAILED]
        logger.info("%d of %d runs are complete", list(states.values()).count(COMPLETE), len(runs))
        for name in failed:
            logger.warning("failed: %s, see %s", name, folder / "runs" / name / "log.txt")
        write_study_report(folder, runs, about)
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} runs failed, see above. The same command tries them again.")


def _check_places(options: StudyOptions, jobs: int, devices: Sequence[str], scheduler: str | None) -> None:
    if jobs < 1:
        raise InputError(f"--jobs must be 1 or more, got {jobs}.")
    if scheduler and (jobs > 1 or devices):
        raise InputError(
            "--scheduler: the cluster's workers set how much runs at once: leave out --jobs and --devices."
        )
    if scheduler and options.preset == "auto":
        raise InputError("--preset: name it for a --scheduler, e.g. paper; auto would look for a GPU on this machine.")
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
    budget_minutes: float | None
    dry_run: bool

    def show(self) -> None:
        """Print the plan, or what is left of the one in the folder."""
        if (self.options.folder / "study.json").is_file():
            self.open()
        else:
            runs, timing = self._plan(make_split(self.cases, seed=0), everything=False)
            self._announce(runs, timing["estimated_seconds"], timing["trimmed"], len(runs))

    def open(self) -> tuple[list[Run], dict[str, Any]]:
        """The plan in the study's folder, which is made or grown where necessary, and the rest of its file.

        Raises:
            InputError: if the folder holds a study of other data or with other options.
        """
        folder = self.options.folder
        split = open_split_of(self.options.for_run(), folder / "split.json")
        copy_bundles(self.options.bundles, folder)
        self.options = replace(self.options, bundles=folder)
        runs, about = read_plan(folder) if (folder / "study.json").is_file() else ([], {})
        now = self._about(split.sha256)
        if about:
            _refuse_changes(folder, about, now)
        if about.get("options") != now["options"]:
            then = about.get("options", {})
            _refuse_other_runs(folder, runs, plan_runs(self.options, split.content), then, now["options"])
            # timed anew when a study grows: there are new kinds of runs
            grown, timing = self._plan(split.content, everything=not about)
            _refuse_other_runs(folder, runs, grown, then, now["options"])  # fewer minutes may have trimmed runs away
            if about:
                logger.info("%d runs join the study", len(grown) - len(runs))
            runs, about = grown, now | timing
            if not self.dry_run:
                write_plan(folder, runs, about)
        states = states_of(folder, runs)
        if rest := [run for run in runs if states[run.name] != COMPLETE]:
            if self.local:
                refuse_too_little(about.get("memory_bytes", 0), self.jobs)
            seconds = measured_seconds(folder, runs, about["estimated_seconds"])
            self._announce(rest, seconds, about["trimmed"], len(runs))
        else:
            logger.info("all %d runs are complete", len(runs))
        return runs, about

    def _plan(self, split: Mapping[str, Any], *, everything: bool) -> tuple[list[Run], dict[str, Any]]:
        """The runs, and what ``study.json`` keeps of their timing."""
        options = self.options
        plan_runs(options, split)  # refuses what does not fit, before it takes time
        logger.info("timing the stages")
        facts = look_at_data(options.for_run(), self.cases, everything)
        device = {"device": self.devices[0]} if self.devices else {}
        estimator = Estimator(replace(options, keys={**options.keys, **device}), self.cases, facts)
        for trims, smaller in trimmed(options, split):
            runs, cut = plan_runs(smaller, split), trims
            seconds = estimator.seconds(runs)
            if self.budget_minutes is None or sum(seconds.values()) / self.jobs <= 60 * self.budget_minutes:
                break
        else:
            cut = [*cut, "nothing is left to trim"]
        memory, less = estimator.memory()
        if self.local:
            refuse_too_little(memory, self.jobs, less)
        rounded = {name: round(s, 1) for name, s in seconds.items()}
        return runs, {"estimated_seconds": rounded, "trimmed": cut, "memory_bytes": memory}

    def _announce(self, rest: Sequence[Run], seconds: Mapping[str, float], cut: Sequence[str], total: int) -> None:
        if self.dry_run:
            logger.info("\n".join(f"{run.name}: {run.kind}" for run in rest))
        if self.budget_minutes is not None:
            logger.info("to fit %g minutes: %s", self.budget_minutes, "; ".join(cut) or "nothing had to be trimmed")
        logger.info(plan_table(rest, seconds))
        left = f"{len(rest)} of {total} runs are left" if len(rest) < total else f"{total} runs"
        taken = sum(seconds[run.name] for run in rest) / self.jobs
        logger.info("%s: about %s with %d at once", left, duration(taken), self.jobs)
        logger.info("cd %s", shlex.quote(str(self.options.folder)))

    def _about(self, split_sha256: str) -> dict[str, Any]:
        options, folder = self.options, self.options.folder
        images, labels = data_digests(options.for_run(), self.cases)
        chosen = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
        configs = sorted(path for bundle in BUNDLES for path in (folder / bundle / "configs").glob("*.json"))
        return {
            "data_set": options.dataset_dir.resolve().name,
            # as they will be read again
            "options": json.loads(json.dumps({**chosen, "budget_minutes": self.budget_minutes})),
            "images_sha256": images,
            "labels_sha256": labels,
            "split_sha256": split_sha256,
            "configs": {path.relative_to(folder).as_posix(): sha256_of(path) for path in configs},
        }


def _refuse_changes(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    changed = [what for what in ("images", "labels", "split") if old[f"{what}_sha256"] != new[f"{what}_sha256"]]
    changed += [name for name, sha256 in old["configs"].items() if new["configs"].get(name) != sha256]
    if changed:
        raise InputError(
            f"--folder: the study in {folder} was begun with other content of: {', '.join(changed[:4])} (sha256). Put "
            "it back, or take a new --folder."
        )


def _refuse_other_runs(
    folder: Path, old: Sequence[Run], new: Sequence[Run], was: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """A study may grow; a run that it has may not change or fall away."""
    commands = {run.name: run.commands for run in new}
    if any(commands.get(run.name) != run.commands for run in old):
        a, b = (pd.json_normalize(dict(options)).to_dict("records")[0] for options in (was, now))
        changed = ", ".join(f"{k} {a.get(k, 'default')} / {b.get(k, 'default')}" for k in a | b if a.get(k) != b.get(k))
        raise InputError(
            f"--folder: {folder} holds a study with other options ({changed}). Take a new --folder; in the old one "
            f"{GROWS} may grow, and nothing else may change."
        )
