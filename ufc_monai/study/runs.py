"""One run of a study, and the kinds of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ufc_monai.base.files import inside

FEATURES, CLUSTERS, SHUFFLE, SELECTION = "features", "clusters", "clusters dealt anew", "selection"
PRETRAINING, PROBE, FINE_TUNING = "pretraining", "linear probe", "fine-tuning and test"
PLACES = {FEATURES: ("train/",), PRETRAINING: ("train/",), FINE_TUNING: ("train/", "test/")}
"""Where in the run's folder each command writes its ``run.json``, if not in the folder itself."""


@dataclass(frozen=True)
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
        draw: which order of the volumes decides who gets labels.
        seed: seed of pretraining.
        init_seed: seed of fine-tuning.
        counts: whether the tables count it; other runs measure the noise of initialisation.
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

    @property
    def folder(self) -> str:
        """Its folder, relative to the study's."""
        return f"runs/{self.name}"

    @property
    def records(self) -> tuple[str, ...]:
        """The ``run.json`` of each command, relative to the study's folder; the run is complete once all are."""
        return tuple(f"{self.folder}/{place}run.json" for place in PLACES.get(self.kind, ("",)))

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
