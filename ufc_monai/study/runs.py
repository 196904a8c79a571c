"""The runs of a study: what kinds there are, whether each is complete, and ``study.json``, which holds them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ufc_monai.base.chain import is_as_recorded
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, inside, read_json, write_json
from ufc_monai.planning.stages import COMPLETE, Step

FEATURES, CLUSTERS, SHUFFLE, SELECTION = "features", "clusters", "clusters dealt anew", "selection"
PRETRAINING, PROBE, FINE_TUNING = "pretraining", "linear probe", "fine-tuning and test"
PLACES = {FEATURES: ("train/",), PRETRAINING: ("train/",), FINE_TUNING: ("train/", "test/")}
"""Where in its folder each command of a run leaves its ``run.json``, if not in the folder itself."""
FORMAT = 2
"""Of ``study.json``."""
FAILED, WAITING = "failed", "waiting"
"""States of a run beside ``COMPLETE``."""


@dataclass
class Run:
    """One run of a study.

    Attributes:
        name: name of its folder below ``runs``.
        kind: what it does.
        commands: run one after the other in the study's folder; none for work on pseudo-labels.
        needs: names of the runs whose files it reads.
        fold: which quarter of the labelled patients is tested.
        method: name of the arm.
        budget: as given.
        volumes: the label budget in volumes.
        draw: which order grants the labels.
        seed: of pretraining.
        init_seed: of fine-tuning.
        counts: whether the tables count it; other runs tell the noise of initialisation.
        error: why it has failed, if it has; all else stays as it was planned.
    """

    name: str
    kind: str
    commands: tuple[tuple[str, ...], ...] = ()
    needs: tuple[str, ...] = ()
    fold: int = 0
    method: str | None = None
    budget: str | None = None
    volumes: int | None = None
    draw: int | None = None
    seed: int | None = None
    init_seed: int | None = None
    counts: bool = True
    error: str | None = None

    @property
    def folder(self) -> str:
        """Its folder, relative to the study's."""
        return f"runs/{self.name}"

    @property
    def records(self) -> tuple[str, ...]:
        """The ``run.json`` of each command, relative to the study's folder; the run is complete once all are."""
        return tuple(f"{self.folder}/{place}run.json" for place in PLACES.get(self.kind, ("",)))

    @property
    def steps(self) -> list[Step]:
        """Its commands, to be done in order."""
        return [Step(self.name, *both) for both in zip(self.commands, self.records, strict=False)]

    def state(self, folder: Path) -> str:
        """``complete``, if its records in the study's folder stand; else ``failed`` or ``waiting``.

        What it was asked for is not looked at: a study with other options, data or configurations is refused.
        """
        records = [folder / record for record in self.records]
        # a run that begins anew takes the old record away, perhaps at this very moment
        complete = all(found_json(record, "--folder").get("status") == "complete" for record in records)
        if complete and all(map(is_as_recorded, records)):
            return COMPLETE
        return FAILED if self.error else WAITING

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        """Read a run from its entry in ``study.json``.

        Raises:
            InputError: if a name leads out of the study's folder.
        """
        for name in (content["name"], *content["needs"]):
            inside("", name, "study.json")
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "commands": tuple(map(tuple, known["commands"])), "needs": tuple(known["needs"])})


def write_plan(folder: Path, runs: Sequence[Run], about: Mapping[str, Any]) -> None:
    """Write ``study.json``: the plan, with the state of each run as the files tell it.

    Args:
        folder: of the study.
        runs: all of them.
        about: what else the file holds: options, hashes, times.
    """
    listed = [{"state": run.state(folder), **asdict(run)} for run in runs]
    write_json(folder / "study.json", {"format": FORMAT, **about, "runs": listed})


def read_plan(folder: Path) -> tuple[list[Run], dict[str, Any]]:
    """The runs of a study, and what else its ``study.json`` holds.

    Raises:
        InputError: if the file is damaged or of another version.
    """
    content = read_json(folder / "study.json", "--folder")
    if content.pop("format", None) != FORMAT:
        raise InputError(f"--folder: {folder / 'study.json'} is of another version. Name another --folder.")
    try:
        return [Run.from_json(entry) for entry in content.pop("runs")], content
    except (AttributeError, KeyError, TypeError) as e:
        raise InputError(
            f"--folder: {folder / 'study.json'} is damaged ({type(e).__name__}: {e}). Name another --folder."
        ) from e
