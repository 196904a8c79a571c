"""A pretended run whose labels are added to and corrected."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pretended_run import content, pretend_to_run

from ufc_monai.base.chain import SPLIT
from ufc_monai.base.files import read_json
from ufc_monai.commands import run
from ufc_monai.planning.options import RunOptions


@dataclass
class Loop:
    """A run on eight labelled volumes and four unlabelled, of which the last is of a labelled patient."""

    options: RunOptions
    labelled: int = 8

    def write_list(self, **more: Any) -> None:
        names = [{"image": f"image{i}.nii.gz"} for i in range(12)]
        names[11]["patient"] = names[0]["patient"] = "anna"
        entries = [{**name, "label": f"label{i}.nii.gz"} for i, name in enumerate(names[: self.labelled])]
        listed = {"training": entries, "unlabelled": names[self.labelled :], "labels": {"liver": 1}, **more}
        (self.options.dataset_dir / "dataset.json").write_text(json.dumps(listed))

    def label(self, upto: int) -> None:
        self.labelled = upto
        for i in range(upto):
            if not (path := self.path(i)).is_file():
                path.write_text(f"label{i}")
        self.write_list()

    def path(self, i: int) -> Path:
        return self.options.dataset_dir / f"label{i}.nii.gz"

    def correct(self, i: int) -> None:
        self.path(i).write_text(self.path(i).read_text() + "!")

    def one_that(self, *roles: str) -> int:
        """The number of a labelled volume whose patient has one of some roles, but not that with two scans."""
        fold = read_json(self.options.folder / SPLIT, "split_path")["folds"][0]
        return next(i for i in range(1, 8) if f"image{i}" in {name for role in roles for name in fold[role]})

    def run(self, **changes: Any) -> None:
        run.run_all(replace(self.options, **changes))


def pretend_to_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop(pretend_to_run(tmp_path, monkeypatch))
    for i in range(8, 12):
        (loop.options.dataset_dir / f"image{i}.nii.gz").write_text(f"image{i}")
    loop.write_list()
    return loop


def kept(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """All that a round has left, without the rounds after it."""
    return {path: what for path, what in content(folder).items() if "rounds" not in path.relative_to(folder).parts}
