"""The rounds of a run: the first in its folder, the others below ``rounds``, each a whole run's folder of its own."""

from __future__ import annotations

import logging
from pathlib import Path

from ufc_monai.base.chain import FINE_TUNING, SPLIT, VAE_TRAINING, data_set_of, record_of
from ufc_monai.base.errors import InputError

logger = logging.getLogger(__name__)
BELOW = "rounds"
"""The folder of the second round and those after it."""


def round_folders(folder: Path) -> list[Path]:
    """The folders of all rounds that were begun, in order; that of the run is the first, whether anything ran or not.

    Args:
        folder: of the run, or of one of its rounds, which then stands alone.
    """
    return [folder, *sorted((p for p in folder.glob(f"{BELOW}/*") if p.name.isdecimal()), key=lambda p: int(p.name))]


def run_of(folder: Path) -> Path:
    """The folder of the run that a round's folder belongs to."""
    run = folder.parent.parent
    is_round = folder.parent.name == BELOW and folder.name.isdecimal() and (run / SPLIT).is_file()
    return run if is_round else folder


def data_set_of_run(folder: Path) -> Path:
    """The folder of the data set that a run is of, or the run of a round.

    Raises:
        InputError: if nothing has run there.
    """
    found = data_set_of(record_of(run_of(folder), VAE_TRAINING))
    if not found:
        raise InputError(f"--folder: no run was begun in {folder}. Name another, or the data set by --dataset_dir DIR.")
    return Path(found)


def names_first_round(folder: Path) -> bool:
    """Whether this names the first round, ``rounds/1`` below the run's folder, which is no folder of its own."""
    return folder.parts[-2:] == (BELOW, "1") and not folder.exists()


def place_in(folder: Path, name: str) -> Path:
    """Where a file about a round goes: into the folder by which it was named.

    About the first round, if it was named ``rounds/1``, it goes to the run's folder with ``_1`` after its stem: the
    file without is about the newest.
    """
    path = folder / name
    return folder.parent.parent / f"{path.stem}_1{path.suffix}" if names_first_round(folder) else path


def number_of(folder: Path, run: Path) -> int:
    """The number of a round among those of a run."""
    return 1 if folder == run else int(folder.name)


def newest_round(folder: Path) -> Path:
    """The folder of the newest round whose fine-tuning is complete; that of the run, if none is.

    Args:
        folder: of the run, or of one of its rounds, which is taken then.
    """
    if names_first_round(folder):
        return folder.parent.parent
    folders = round_folders(folder)
    found = next((place for place in reversed(folders) if is_trained(place)), folder)
    if len(folders) > 1:
        logger.info("round %d: %s", number_of(found, folder), found)
    return found


def is_trained(folder: Path) -> bool:
    """Whether the fine-tuning of a round is complete."""
    return record_of(folder, FINE_TUNING).get("status") == "complete"
