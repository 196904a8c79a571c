"""The rounds of labelling: what each was given, and what came of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ufc_monai.base.chain import FINE_TUNING, QUALITY, record_of
from ufc_monai.base.files import found_json
from ufc_monai.base.rounds import is_trained, number_of, round_folders
from ufc_monai.report.page import aligned, listed
from ufc_monai.report.quality import read_quality
from ufc_monai.report.summary import OWN, column_means, dice_files

HEAD = ("round", "labelled volumes", "test Dice", "new labels", "corrected", "predicted Dice of these before")
NO_TEST = "No patient is held out, so no Dice compares the rounds, and there is no curve."


@dataclass(frozen=True)
class Round:
    """A round whose fine-tuning is complete.

    Attributes:
        number: from 1.
        volumes: labelled, that it was trained on.
        dice: mean, of the test volumes; ``None`` without a test.
        added: images with a label that the round before did not have.
        corrected: images with another label than in the round before.
        before: mean Dice that the round before had predicted of these; ``None`` where it had not.
    """

    number: int
    volumes: int
    dice: float | None
    added: list[str]
    corrected: list[str]
    before: float | None

    @property
    def cells(self) -> tuple[str, ...]:
        """Below :data:`HEAD`."""
        dice, before = ("-" if x is None else f"{x:.3f}" for x in (self.dice, self.before))
        changed = (listed(images) or "-" for images in (self.added, self.corrected))
        return (str(self.number), str(self.volumes), dice, *changed, before)


def read_rounds(run: Path) -> list[Round]:
    """The rounds of a run in order; none if it has only one.

    Args:
        run: folder of the run.
    """
    folders = round_folders(run)
    return list(_rounds(folders)) if len(folders) > 1 else []


def rounds_text(rounds: list[Round]) -> str:
    """The rounds as lines of text."""
    table = aligned([HEAD, *(found.cells for found in rounds)])
    return table if any(found.dice is not None for found in rounds) else f"{table}\n{NO_TEST}"


def _rounds(folders: list[Path]) -> Iterator[Round]:
    then: dict[str, str] = {}
    predicted: dict[str, float | None] = {}
    for folder in folders:
        if not is_trained(folder):
            continue
        now = found_json(folder / "labels.json", "--folder").get("labels", {})
        added = sorted(now.keys() - then) if then else []
        corrected = sorted(image for image in then if now.get(image, then[image]) != then[image])
        known = [dice for image in added if (dice := predicted.get(image)) is not None]
        volumes = record_of(folder, FINE_TUNING).get("settings", {}).get("training_volumes", 0)
        tables = dice_files(folder)
        test = column_means(tables[OWN])["mean"] if OWN in tables else None
        yield Round(
            number_of(folder, folders[0]), volumes, test, added, corrected, statistics.fmean(known) if known else None
        )
        then, predicted = now, {scan.scan: scan.dice for scan in read_quality(folder / QUALITY)}
