"""``phantom``: synthetic patients or pictures to try things on."""

from __future__ import annotations

import logging
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.phantom.skin import make_skin_phantom

logger = logging.getLogger(__name__)


def phantom(target: Path, patients: int, kind: str, labelled: int | None = None) -> None:
    """Make synthetic patients.

    Args:
        target: folder to write to.
        patients: how many.
        kind: ``"heart"`` for heart CT, ``"skin"`` for pictures of the skin.
        labelled: how many have labels; ``None`` is all.

    Raises:
        InputError: at an invalid number, or if the folder is a file.
    """
    if patients < 1 or not 0 <= (labelled or 0) <= patients:
        raise InputError(
            f"--patients must be 1 or more, and --labelled at most as many; got {patients} and {labelled}."
        )
    if target.exists() and not target.is_dir():
        raise InputError(f"OUT: {target} is a file. Name a folder.")
    if kind == "skin":
        images = make_skin_phantom(target, pictures=patients, labelled=labelled)
    else:
        images = make_phantom(target, patients=patients, labelled=labelled)
    logger.info("%d synthetic patients in %s", len(images), target)
