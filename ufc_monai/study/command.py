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

import pandas as pd
import torch

from ufc_monai.base.bundles import BUNDLES
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, sha256_of
from ufc_monai.base.lock import at_work
from ufc_monai.commands.run import copy_bundles, data_digests, look_at_data
from ufc_monai.data.case import Case
from ufc_monai.data.draw import make_split
from ufc_monai.planning.memory import refuse_too_little
from ufc_monai.planning.options import open_split_of, usable_cases
from ufc_monai.planning.process import COMPLETE
from ufc_monai.study.estimate import Estimator, measured_seconds, plan_table
from ufc_monai.study.execute import cluster, execute, threads
from ufc_monai.study.options import StudyOptions, trimmed
from ufc_monai.study.plan import plan_runs
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
    folder = options.folder.resolve()
    desk = _Desk(options, usable_cases(options), jobs, devices, scheduler is None, budget_minutes, dry_run)
    with contextlib.nullcontext() if dry_run else at_work(folder / "study.lock"):
        runs, about = desk.open()
        desk.announce(runs, about)
        if dry_run:
            return
        slots: list[str | None] = [devices[i % len(devices)] if devices else None for i in range(jobs)]
        executor = threads(folder, jobs)
        if scheduler:
            slots, gpus = [None] * len(runs), "cpu" not in options.preset.split("+")
            executor = cluster(folder, runs, scheduler, gpus=gpus)
        with executor as submit:
            execute(folder, runs, submit, slots, lambda: write_plan(folder, runs, about))
        states = [run.state(folder) for run in runs]
        logger.info("%d of %d runs are complete", states.count(COMPLETE), len(runs))
        for run in runs:
            if run.state(folder) == FAILED:
                logger.warning("failed: %s, see %s", run.name, folder / run.folder / "log.txt")
        write_study_report(folder, runs, about)
    if failed := states.count(FAILED):
        raise InputError(f"{failed} of {len(runs)} runs failed, see above. The same command tries them again.")


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

    def open(self) -> tuple[list[Run], dict[str, Any]]:
        """The plan in the study's folder, which is made or grown where necessary, and the rest of its file.

        Raises:
            InputError: if the folder holds a study of other data or with other options.
        """
        folder = self.options.folder
        runs, about = read_plan(folder) if (folder / "study.json").is_file() else ([], {})
        if self.dry_run and not about:
            return self._plan(make_split(self.cases, seed=0), everything=False)
        split = open_split_of(self.options, folder / "split.json")
        copy_bundles(self.options.bundles, folder)
        self.options = replace(self.options, bundles=folder)
        now = self._about(split.sha256)
        if about:
            _refuse_changes(folder, about, now)
            if about["options"] == now["options"]:
                return runs, about
        # timed anew when a study grows: there are new kinds of runs
        grown, timing = self._plan(split.content, everything=not about)
        if about:
            _refuse_other_runs(folder, runs, grown, about["options"], now["options"])
            logger.info("%d runs join the study", len(grown) - len(runs))
        if not self.dry_run:
            write_plan(folder, grown, now | timing)
            _publish_labels(folder / "labels.csv", split.content)
        return grown, now | timing

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
        if self.dry_run:
            logger.info("\n".join(f"{run.name}: {run.kind}" for run in rest))
        if self.budget_minutes is not None:
            trimmed = "; ".join(about["trimmed"]) or "nothing had to be trimmed"
            logger.info("to fit %g minutes: %s", self.budget_minutes, trimmed)
        seconds = measured_seconds(folder, runs, about["estimated_seconds"])
        logger.info(plan_table(rest, seconds))
        left = f"{len(rest)} of {len(runs)} runs are left" if len(rest) < len(runs) else f"{len(runs)} runs"
        taken = sum(seconds[run.name] for run in rest) / self.jobs
        logger.info("%s: about %s with %d at once", left, duration(taken), self.jobs)
        logger.info("cd %s", shlex.quote(str(folder)))

    def _plan(self, split: Mapping[str, Any], *, everything: bool) -> tuple[list[Run], dict[str, Any]]:
        """The runs, and what ``study.json`` keeps of their timing."""
        options = self.options
        plan_runs(options, split)  # refuses what does not fit, before it takes time
        logger.info("timing the stages")
        facts = look_at_data(options, self.cases, everything)
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

    def _about(self, split_sha256: str) -> dict[str, Any]:
        options, folder = self.options, self.options.folder
        data = data_digests(options, self.cases)
        chosen = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
        configs = sorted(path for bundle in BUNDLES for path in (folder / bundle / "configs").glob("*.json"))
        return {
            "data_set": options.dataset_dir.resolve().name,
            # as they will be read again
            "options": json.loads(json.dumps({**chosen, "budget_minutes": self.budget_minutes})),
            "images_sha256": data["images"],
            "labels_sha256": data["labels"],
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
        changed = ", ".join(f"{name} {was[name]} / {now[name]}" for name in now if was[name] != now[name])
        raise InputError(
            f"--folder: {folder} holds a study with other options ({changed}). Take a new --folder; in the old one "
            f"{GROWS} may grow, and nothing else may change."
        )


def _publish_labels(path: Path, split: Mapping[str, Any]) -> None:
    """Write which labels each draw grants: a budget of n volumes takes the first n."""
    rows = [
        (fold, draw, rank, volume)
        for fold, content in enumerate(split["folds"])
        for draw, order in enumerate(content["label_orders"])
        for rank, volume in enumerate(order, start=1)
    ]
    with atomic_path(path) as temporary:
        pd.DataFrame(rows, columns=["fold", "draw", "rank", "volume"]).to_csv(temporary, index=False)
