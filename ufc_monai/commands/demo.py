"""``demo``: a whole run on synthetic patients, from random weights and from the pretrained encoder."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import UNET
from ufc_monai.base.errors import InputError
from ufc_monai.commands.run import run_all
from ufc_monai.phantom.ct import make_phantom
from ufc_monai.planning.options import RunOptions, find_bundles

logger = logging.getLogger(__name__)

LABELLED_PATIENTS = 0.75
"""The share of synthetic patients with labels; training, validation and test patients are drawn from them."""
BUDGET = 2
FINE_TUNING = {"min_steps": 500}
"""Synthetic hearts are learned sooner than real ones."""


def run_demo(
    folder: Path,
    bundles: Path | None = None,
    patients: int = 12,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make patients, then do what ``run --compare`` does with them.

    Args:
        folder: where everything goes. Run again with the same folder, complete stages are skipped.
        bundles: the folder of the three bundles; they are copied, and stay as they are.
        patients: synthetic patients, 8 or more so that each fold trains on some.
        overrides: keys of one bundle's training, by the bundle's name.

    Raises:
        InputError: if a bundle is missing, there are too few patients, the folder holds others, or a stage fails.
    """
    source = find_bundles(bundles)
    if patients < 8:
        raise InputError(f"--patients must be 8 or more, so that every role has some; got {patients}.")
    data = folder / "phantom"
    if not data.exists():
        logger.info("making %d synthetic whole-heart CT patients in %s", patients, data)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".phantom-") as temporary:
            made = Path(temporary, "phantom")
            make_phantom(made, patients=patients, labelled=round(LABELLED_PATIENTS * patients))
            made.rename(data)
    elif len(list(data.glob("*_image.nii.gz"))) != patients:
        raise InputError(f"--folder: {data} does not hold {patients} patients. Name another --folder.")
    given = dict(overrides or {})
    given[UNET] = {**FINE_TUNING, **given.get(UNET, {})}
    run_all(RunOptions(data, folder, source, BUDGET, "cpu", compare=True, overrides=given, estimate=False))
    logger.info("A demo this short shows the machinery, not the method's gain.")
