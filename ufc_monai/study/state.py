"""The state of a study's runs, and ``study.json``, the plan with the state of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json, write_json
from ufc_monai.base.lineage import are_up_to_date
from ufc_monai.study.runs import Run

FORMAT = 1
COMPLETE, FAILED, WAITING = "complete", "failed", "waiting"


def write_plan(folder: Path, runs: Sequence[Run], about: Mapping[str, Any]) -> None:
    """Write ``study.json``.

    Args:
        folder: of the study.
        runs: all of them.
        about: what else the file holds: options, hashes, times.
    """
    states = states_of(folder, runs)
    failures = [found_json(failure_of(folder, run), "--folder") for run in runs]
    listed = [
        {"state": states[run.name], **asdict(run), **failure} for run, failure in zip(runs, failures, strict=True)
    ]
    write_json(folder / "study.json", {"format": FORMAT, **about, "runs": listed})


def read_plan(folder: Path) -> tuple[list[Run], dict[str, Any]]:
    """The runs of a study, and what else its ``study.json`` holds.

    Raises:
        InputError: if the file is damaged or was written by another version.
    """
    content = read_json(folder / "study.json", "--folder")
    if content.get("format") != FORMAT:
        raise InputError(f"--folder: {folder / 'study.json'} is from another version. Name another --folder.")
    runs = [Run.from_json(entry) for entry in content.pop("runs")]
    return runs, {key: value for key, value in content.items() if key != "format"}


def states_of(folder: Path, runs: Sequence[Run]) -> dict[str, str]:
    """The state of every run, by its name."""
    return {run.name: state_of(folder, run) for run in runs}


def state_of(folder: Path, run: Run) -> str:
    """``complete``, ``failed`` or ``waiting``, from the files in its folder; ``waiting`` if its inputs have changed."""
    # a run that starts over removes its old record, perhaps at this very moment
    records = [found_json(folder / record, "--folder") for record in run.records]
    complete = all(record.get("status") == "complete" for record in records)
    if complete and are_up_to_date(folder / record for record in run.records):
        return COMPLETE
    return FAILED if failure_of(folder, run).is_file() else WAITING


def failure_of(folder: Path, run: Run) -> Path:
    """The file in which a failed run says why."""
    return folder / f"{run.folder}.failed.json"
