"""``label``: a run's bundles, with their weights and the right class names, in MONAI Label's stock app."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from monai.utils import optional_import

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.artifacts.served import check_mask_values, named_classes
from ufc_monai.base.bundles import BUNDLES, UNET
from ufc_monai.base.chain import MASKS, QUALITY, standing_record
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, copy_below
from ufc_monai.base.formats import stem_of
from ufc_monai.base.rounds import newest_round
from ufc_monai.report.quality import read_quality
from ufc_monai.transforms.labels import classes_of, few
from ufc_monai.transforms.save import mask_paths
from ufc_monai.transforms.volume import Grid, label_fault
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
            run the name of a class, or a draft cannot be written. No bundle is copied then.
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
        if studies:  # first: with the bundles in the app, the same command would be refused
            _put_drafts(folder, studies, values)
        copied = _moved(Path(temporary), models, present)
    ids = sorted(named_classes(models / UNET).values())
    if ids != list(range(1, len(ids) + 1)):
        logger.warning(
            "masks hold the data set's ids, %s, but 3D Slicer numbers what it saves 1, 2, ...: to paint there, pass "
            "--values channels",
            ", ".join(map(str, ids)),
        )
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


def _put_drafts(folder: Path, studies: Path, values: str) -> None:
    """Copy a run's masks of unlabelled scans to the drafts of those that have neither a draft nor a final mask."""
    if not standing_record(folder, MASKS):
        logger.warning("no drafts: the run has no masks that are up to date. Give its run command again first.")
        return
    # the folder may also hold masks of an earlier data set or fold
    masks = mask_paths((scan.scan for scan in read_quality(folder / QUALITY)), folder / MASKS.place, os.curdir).values()
    called = Counter(mask.name for mask in masks)
    labels = read_record(folder / UNET / "models" / "network.json", "--folder")["labels"]
    done, left_out = 0, list[str]()
    for mask in masks:
        name = f"{stem_of(mask).removesuffix('_seg')}.nii.gz"
        draft, final = (studies / "labels" / tag / name for tag in ("original", "final"))
        if draft.exists() or final.exists() or not mask.match("*.nii.gz") or not (studies / name).is_file():
            continue
        if called[mask.name] > 1 or not _is_mask_of(studies / name, mask):
            left_out.append(name)
            continue
        image = nib.load(mask)
        voxels = np.asarray(image.dataobj)
        if values == "channels":
            voxels = classes_of(voxels, labels.values())
        with atomic_path(draft) as temporary:
            nib.save(nib.Nifti1Image(voxels, image.affine), temporary)
        done += 1
    if left_out:
        named = few(sorted({*left_out}))
        logger.warning("no draft of %s: several scans of the run have this name, or its mask has another grid", named)
    logger.info("drafts: %d, in %s", done, studies / "labels" / "original")


def _is_mask_of(scan: Path, mask: Path) -> bool:
    """Whether a mask lies on the grid of a scan; that of a file that cannot be read is not known."""
    try:
        return label_fault(*(Grid.of(image.affine, image.shape) for image in map(nib.load, (scan, mask)))) is None
    except Exception:  # whoever opens the scan will see why
        return False


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
