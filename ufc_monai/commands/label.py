"""``label``: a run's bundles, with their weights and the right class names, in MONAI Label's stock app."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.utils import optional_import

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.artifacts.served import check_mask_values, named_classes
from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.chain import MASKS, standing_record
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, copy_below
from ufc_monai.base.formats import stem_of
from ufc_monai.base.rounds import newest_round
from ufc_monai.zoo.metadata import write_metadata

nib, _ = optional_import("nibabel")

logger = logging.getLogger(__name__)

SERVED = ("configs/*", "models/model.pt", "models/network.json", "models/centroids.npz")
"""What a server reads of a bundle; anything else in ``models`` could be taken for weights."""


def put_into_app(folder: Path, app: Path, values: str = "ids", studies: Path | None = None) -> list[Path]:
    """Copy the bundles of a run, or the bundles as they come, into an app; each serves what it has weights for.

    Copies, because a server trains ``models/model.pt`` on. A copy's ``metadata.json`` describes its weights, and
    names their classes: those of segmentation by the values that masks hold, or the clusters of the VAE's slices.

    Args:
        folder: of the run; its newest round is served.
        app: folder of the app ``monaibundle``.
        values: what masks hold: ``"ids"`` of the data set, or ``"channels"``, 1 to n in the order of the classes.
        studies: folder of the server's scans, which get the run's masks of unlabelled scans as first drafts: under the
            tag ``original``, never under ``final``, on which the server trains. What is there already stays.

    Returns:
        The bundles in the app.

    Raises:
        InputError: if the app or the scans' folder is missing, the run has no weights, no segmentation bundle or one
            of an earlier version, the app has one of the bundles already, a link leads out of a bundle, or MONAI would
            run the name of a class. Nothing is copied then.
    """
    models, folder = app / "model", newest_round(folder)
    present = _served_bundles(folder, app)
    if studies and not studies.is_dir():
        raise InputError(f"--studies: there is no folder {studies}. Name that of the server's .nii.gz files.")
    models.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".label-") as temporary:
        for name in present:
            copy = Path(temporary, name)
            copy_below(folder / name, copy, *SERVED, key="--folder")
            if (copy / "models" / "model.pt").is_file():
                write_metadata(copy, served=values == "ids")
        copied = _moved(Path(temporary), models, present)
    ids = sorted(named_classes(models / UNET).values())
    if ids != list(range(1, len(ids) + 1)):
        logger.warning(
            "masks hold the data set's ids, %s, but 3D Slicer numbers what it saves 1, 2, ...: to paint there, pass "
            "--values channels",
            ", ".join(map(str, ids)),
        )
    if studies:
        logger.info("drafts: %d, in %s", _put_drafts(folder, studies, values), studies / "labels" / "original")
    logger.info("bundles %s in %s; start the server with --conf models %s", ", ".join(present), models, UNET)
    return copied


def _served_bundles(folder: Path, app: Path) -> list[str]:
    """The bundles to copy, once it is sure that they can be served and that the app has none of them."""
    if not (app / "main.py").is_file():
        raise InputError(
            f"APP: {app} is not an app. python -m monailabel.main apps --download --name monaibundle makes one."
        )
    if not (folder / UNET / "configs" / "train.json").is_file():
        raise InputError(f"--folder: there is no {folder / UNET} with its configs. Is it a run's folder?")
    check_mask_values(folder / UNET)
    present = [name for name in BUNDLES if (folder / name / "configs").is_dir()]
    if not any((folder / name / "models" / "model.pt").is_file() for name in present):
        raise InputError(f"--folder: no bundle in {folder} has weights. Name a finished run's folder, not a study's.")
    for copy in (app / "model" / name for name in present):
        if copy.exists():
            raise InputError(f"APP: {copy} is there already, perhaps with weights of the server: remove it.")
    return present


def _put_drafts(folder: Path, studies: Path, values: str) -> int:
    """Copy a run's masks of unlabelled scans to the drafts of those that have neither a draft nor a final mask."""
    done = 0
    for mask in sorted((folder / MASKS.place).rglob("*_seg.nii.gz")) if standing_record(folder, MASKS) else []:
        name = f"{stem_of(mask).removesuffix('_seg')}.nii.gz"
        draft, final = (studies / "labels" / tag / name for tag in ("original", "final"))
        if draft.exists() or final.exists() or not (studies / name).is_file():
            continue
        image = nib.load(mask)
        voxels = np.asarray(image.dataobj)
        if values == "channels":
            labels = read_record(folder / UNET / "models" / "network.json", "--folder")["labels"]
            channels = np.zeros(voxels.shape, np.uint8)
            for channel, i in enumerate(labels.values(), start=1):
                channels[voxels == i] = channel
            voxels = channels
        with atomic_path(draft) as temporary:
            nib.save(nib.Nifti1Image(voxels, image.affine), temporary)
        done += 1
    return done


def _moved(source: Path, target: Path, names: Sequence[str]) -> list[Path]:
    """Move folders, all or none: with one of them there, the same command would be refused."""
    moved: list[Path] = []
    try:
        for name in names:
            moved.append((source / name).rename(target / name))
    except OSError:
        for path in moved:
            shutil.rmtree(path)
        raise
    return moved
