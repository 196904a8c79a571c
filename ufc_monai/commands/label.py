"""``label``: a run's bundles, with their weights and the right class names, in MONAI Label's stock app."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from ufc_monai.artifacts.served import check_mask_values, named_classes
from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import copy_below
from ufc_monai.commands.arguments import VALUES
from ufc_monai.zoo.metadata import write_metadata

logger = logging.getLogger(__name__)

SERVED = ("model.pt", "network.json", "centroids.npz")
"""What a server reads of a bundle's ``models``; anything else there could be taken for weights."""


def put_into_app(folder: str | os.PathLike[str], app: str | os.PathLike[str], values: str = VALUES[0]) -> list[Path]:
    """Copy the bundles of a run, or the bundles as they come, into an app; each serves what it has weights for.

    Copies, because a server trains ``models/model.pt`` on. A copy's ``metadata.json`` describes its weights, and
    names their classes: those of segmentation by the values that masks hold, or the clusters of the VAE's slices.

    Args:
        folder: of the run.
        app: folder of the app ``monaibundle``.
        values: what masks hold, one of ``VALUES``: the data set's ids, or 1 to n in the order of the classes.

    Returns:
        The bundles in the app.

    Raises:
        InputError: if there is no app, the run has no segmentation bundle or one of an earlier version, the app has
            one of the bundles already, a link leads out of a bundle, or MONAI would run the name of a class. Nothing
            is copied then.
    """
    folder, models = Path(folder), Path(app) / "model"
    if not (Path(app) / "main.py").is_file():
        raise InputError(
            f"APP: {app} is no app. python -m monailabel.main apps --download --name monaibundle makes one."
        )
    if not (folder / UNET / "configs" / "train.json").is_file():
        raise InputError(f"--folder: there is no {folder / UNET} with its configs. Is it a run's folder?")
    check_mask_values(folder / UNET)
    present = [name for name in BUNDLES if (folder / name / "configs").is_dir()]
    for name in present:
        if (models / name).exists():
            raise InputError(f"APP: {models / name} is there already, perhaps with weights of the server: remove it.")
    models.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".label-") as temporary:
        for name in present:
            _copy(folder / name, Path(temporary, name), served=values == VALUES[0])
        copied = [Path(temporary, name).rename(models / name) for name in present]
    ids = sorted(named_classes(models / UNET).values())
    if ids != list(range(1, len(ids) + 1)):
        logger.warning(
            "masks hold the data set's ids, %s, but 3D Slicer numbers what it saves 1, 2, ...: to paint there, pass "
            "--values channels",
            ", ".join(map(str, ids)),
        )
    logger.info("bundles %s in %s; start the server with --conf models %s", ", ".join(present), models, UNET)
    return copied


def _copy(source: Path, target: Path, served: bool) -> None:
    copy_below(source, target, "configs/*", *(f"models/{name}" for name in SERVED), key="--folder")
    if (target / "models" / "model.pt").is_file():
        write_metadata(target, served=served)
