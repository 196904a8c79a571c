"""``study``: does pretraining help, and with how few labels?"""

from __future__ import annotations

import csv
import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ufc_monai.bundles import BUNDLES
from ufc_monai.commands.memory import refuse_too_little
from ufc_monai.commands.options import open_split_of, usable_cases
from ufc_monai.commands.run import copy_bundles, data_digests, look_at_data
from ufc_monai.data import Case, make_split
from ufc_monai.engines import check_device
from ufc_monai.engines.log import duration
from ufc_monai.errors import InputError
from ufc_monai.files import atomic_path, sha256_of
from ufc_monai.lock import at_work
from ufc_monai.study.estimate import Estimator, measured_seconds, plan_table
from ufc_monai.study.execute import cluster, execute, threads
from ufc_monai.study.options import StudyOptions, trimmed
from ufc_monai.study.plan import plan_runs
from ufc_monai.study.report import write_study_report
from ufc_monai.study.runs import Run
from ufc_monai.study.state import COMPLETE, FAILED, read_plan, states_of, write_plan

__all__ = ["run_study"]

logger = logging.getLogger(__name__)

GROWS = "methods, clusterings, selection, budgets, folds, seeds, draws and init_seeds"
"""Options that may name more when a study goes on."""


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
        devices: which they are spread over.
        scheduler: address of a Dask scheduler whose workers do the runs, instead of this machine.
        budget_minutes: trim a new plan to what takes as long.
        dry_run: show the plan, or what is left of the one in the folder, and start nothing.

    Raises:
        InputError: if an option or the data set does not fit, or is not that of the study in the folder; if another
            process is at work there; at the end, if runs have failed.
    """
    _check_places(options, jobs, devices, scheduler)
    if options.preset == "auto":  # said once, so that every command on the folder means the same
        options = replace(options, preset="paper" if torch.cuda.is_available() else "cpu")
    cases = usable_cases(options.for_run())
    desk = _Desk(options, cases, jobs, devices, scheduler is None, budget_minutes, dry_run)
    if dry_run:
        return desk.show()
    folder = options.folder.resolve()
    with at_work(folder / "study.lock"):
        runs, about = desk.open()
        slots: list[str | None] = [devices[i % len(devices)] if devices else None for i in range(jobs)]
        executor = threads(folder, jobs)
        if scheduler:
            slots, gpus = [None] * len(runs), "cpu" not in options.preset.split("+")
            executor = cluster(folder, runs, scheduler, gpus=gpus)
        with executor as submit:
            execute(folder, runs, submit, slots, lambda: write_plan(folder, runs, about))
        states = states_of(folder, runs)
        _say_what_is_left(folder, states)
        write_study_report(folder, runs, about)
    if failed := sum(state == FAILED for state in states.values()):
        raise InputError(f"{failed} of {len(runs)} runs failed, see above. The same command tries them again.")


def _check_places(options: StudyOptions, jobs: int, devices: Sequence[str], scheduler: str | None) -> None:
    if jobs < 1:
        raise InputError(f"--jobs must be 1 or more, got {jobs}.")
    if scheduler and (jobs > 1 or devices):
        raise InputError(
            "--scheduler: the cluster's workers say how many runs there are at once: leave out --jobs and --devices."
        )
    if scheduler and options.preset == "auto":
        raise InputError("--preset: name it for a --scheduler, e.g. paper; auto would look for a GPU on this machine.")
    for device in devices:
        check_device(device)


@dataclass
class _Desk:
    """Where a plan is made, or an old one found to fit."""

    options: StudyOptions
    cases: Sequence[Case]
    jobs: int
    devices: Sequence[str]
    local: bool
    budget_minutes: float | None
    dry_run: bool
    memory: int = 0

    def show(self) -> None:
        """Print the plan, or what is left of the one in the folder."""
        if (self.options.folder / "study.json").is_file():
            self.open()
        else:
            self._announce(*self._plan(make_split(self.cases, seed=0), everything=False))

    def open(self) -> tuple[list[Run], dict[str, Any]]:
        """The plan in the study's folder, which is made or grown where necessary, and what else its file holds.

        Raises:
            InputError: if the folder holds a study of other data or with other options.
        """
        folder = self.options.folder
        split = open_split_of(self.options.for_run(), folder / "split.json")
        copy_bundles(self.options.bundles, folder)
        self.options = replace(self.options, bundles=folder)
        about = self._about(split.sha256)
        if (folder / "study.json").is_file():
            return self._go_on(about, split.content)
        runs, seconds, cut = self._plan(split.content, everything=True)
        about |= self._foretold(seconds, cut)
        self._write(runs, about, split.content)
        self._announce(runs, seconds, cut)
        return runs, about

    def _go_on(self, about: dict[str, Any], split: Mapping[str, Any]) -> tuple[list[Run], dict[str, Any]]:
        folder = self.options.folder
        runs, old = read_plan(folder)
        _refuse_changes(folder, old, about)
        if old["options"] != about["options"]:
            # timed anew: there are new kinds of runs
            grown, seconds, cut = self._plan(split, everything=False)
            _refuse_other_runs(folder, runs, grown, old["options"], about["options"])
            about |= self._foretold(seconds, cut)
            logger.info("%d runs join the study", len(grown) - len(runs))
            runs, old = grown, about
            self._write(runs, about, split)
        states = states_of(folder, runs)
        rest = [run for run in runs if states[run.name] != COMPLETE]
        if rest:
            self._refuse_too_little(old.get("memory_bytes", 0))
            self._announce(rest, measured_seconds(folder, runs, old["estimated_seconds"]), old["trimmed"], len(runs))
        else:
            logger.info("all %d runs are complete", len(runs))
        return runs, old

    def _foretold(self, seconds: Mapping[str, float], cut: Sequence[str]) -> dict[str, Any]:
        """What ``study.json`` keeps of the timing."""
        rounded = {name: round(s, 1) for name, s in seconds.items()}
        return {"estimated_seconds": rounded, "trimmed": list(cut), "memory_bytes": self.memory}

    def _write(self, runs: Sequence[Run], about: Mapping[str, Any], split: Mapping[str, Any]) -> None:
        if self.dry_run:
            return
        write_plan(self.options.folder, runs, about)
        _publish_labels(self.options.folder / "labels.csv", split)

    def _plan(self, split: Mapping[str, Any], *, everything: bool) -> tuple[list[Run], dict[str, float], list[str]]:
        """The runs, their seconds, and what was trimmed."""
        runs, options = plan_runs(self.options, split), self.options
        logger.info("%d runs; timing the stages", len(runs))
        facts = look_at_data(options.for_run(), self.cases, everything)
        estimator = Estimator(options, self.cases, facts, self.devices[0] if self.devices else None)
        seconds, cut = estimator.seconds(runs), []
        self.memory, less = estimator.memory()
        self._refuse_too_little(self.memory, less)
        smaller = trimmed(options, split)
        while self.budget_minutes is not None and sum(seconds.values()) / self.jobs > 60 * self.budget_minutes:
            step = next(smaller, None)
            if step is None:
                cut.append("nothing is left to trim")
                break
            cut.append(step[0])
            runs = plan_runs(step[1], split)
            seconds = estimator.seconds(runs)
        return runs, seconds, _last_of_each(cut)

    def _refuse_too_little(self, memory: int, *less: str) -> None:
        if self.local:
            refuse_too_little(memory, self.jobs, *less)

    def _announce(
        self, runs: Sequence[Run], seconds: Mapping[str, float], cut: Sequence[str], all_runs: int | None = None
    ) -> None:
        total = sum(seconds[run.name] for run in runs) / self.jobs
        if self.dry_run:
            logger.info("\n".join(f"{run.name}: {run.kind}" for run in runs))
        if self.budget_minutes is not None:
            logger.info("to fit %g minutes: %s", self.budget_minutes, "; ".join(cut) or "nothing had to be trimmed")
        logger.info("\n".join(plan_table(runs, seconds)))
        left = f"{len(runs)} of {all_runs} runs are left" if all_runs else f"{len(runs)} runs"
        logger.info("%s: about %s with %d at once", left, duration(total), self.jobs)
        logger.info("cd %s", shlex.quote(str(self.options.folder)))

    def _about(self, split_sha256: str) -> dict[str, Any]:
        options, folder = self.options, self.options.folder
        images, labels = data_digests(options.for_run(), self.cases)
        names = ("methods", "clusterings", "budgets", "folds", "seeds", "draws", "init_seeds", "selection", "preset")
        chosen = {name: getattr(options, name) for name in (*names, "keys", "overrides")}
        chosen["budget_minutes"] = self.budget_minutes
        configs = sorted(path for bundle in BUNDLES for path in (folder / bundle / "configs").glob("*.json"))
        return {
            "data_set": options.dataset_dir.resolve().name,
            "options": json.loads(json.dumps(chosen)),  # as they will be read again
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
        changed = ", ".join(f"{name} {was[name]} / {now[name]}" for name in now if was[name] != now[name])
        raise InputError(
            f"--folder: {folder} holds a study with other options ({changed}). Take a new --folder; in the old one "
            f"{GROWS} may grow, and nothing else may change."
        )


def _publish_labels(path: Path, split: Mapping[str, Any]) -> None:
    """Write which labels each draw grants: a budget of n volumes takes the first n."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["fold", "draw", "rank", "volume"])
        for fold, content in enumerate(split["folds"]):
            for draw, order in enumerate(content["label_orders"]):
                table.writerows([fold, draw, rank, volume] for rank, volume in enumerate(order, start=1))


def _say_what_is_left(folder: Path, states: Mapping[str, str]) -> None:
    logger.info("%d of %d runs are complete", list(states.values()).count(COMPLETE), len(states))
    for name in [name for name, state in states.items() if state == FAILED]:
        logger.warning("failed: %s, see %s", name, folder / "runs" / name / "log.txt")


def _last_of_each(cut: Sequence[str]) -> list[str]:
    """Of ``seeds 4``, ``seeds 3``, ``folds 3`` the last word on each."""
    return list({step.split()[0]: step for step in cut}.values())
