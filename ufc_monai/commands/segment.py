"""``segment``: masks for new scans, from a run's folder or a bundle and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigWorkflow
from tqdm import tqdm

from ufc_monai.bundles import UNET
from ufc_monai.commands.arguments import EXISTING
from ufc_monai.commands.stages import config_path
from ufc_monai.data import image_items
from ufc_monai.errors import InputError, find_input_error, last_words, unwrapped
from ufc_monai.formats import suffix_of
from ufc_monai.served import check_mask_values
from ufc_monai.transfer import load_weights, read_record
from ufc_monai.transforms import LoadVolume, SaveMask, has_mark

__all__ = ["find_segmentation_bundle", "segment"]

logger = logging.getLogger(__name__)


def segment(
    weights: str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
    existing: str = EXISTING[0],
) -> list[Path]:
    """Segment one scan or a folder of scans. Each mask is in its place as soon as it is complete.

    Args:
        weights: the folder of a run, or of a segmentation bundle with its weights.
        source: a file, a folder with one DICOM series, or a folder of scans.
        target: for one scan the file to write, or a folder; for several a folder.
        overrides: further keys of the bundle's inference.json.
        existing: what to do about masks that are there already, one of ``EXISTING``.

    Returns:
        The masks written, on the grids of their scans, with the ids that network.json names.

    Raises:
        InputError: if there are no weights or no scans, the configuration is of an earlier version, or a mask to keep
            holds other numbers than these ids; and, once the masks of all others are written, naming the scans that
            cannot be read.
    """
    bundle, source, target = find_segmentation_bundle(weights), Path(source), Path(target)
    check_mask_values(bundle)
    if not source.exists():
        raise InputError(f"IN: there is no file or folder {source}.")
    scans = image_items(source)
    to_file = bool(suffix_of(target)) and not target.is_dir()
    if to_file:
        _check_file(target, scans)
    root = config_path(source.parent if len(scans) == 1 and source.is_file() else source, "IN")
    saver = SaveMask(target, root)
    goals = {scan["image"]: target if to_file else Path(saver.path(scan["image"])) for scan in scans}
    _refuse_scans(goals)
    scans, kept = _still_to_do(scans, goals, existing)
    if kept:
        ids = list(_labels(bundle).values())
        for mask in kept:
            _check_kept(mask, ids)
        logger.info("kept: %d masks that were there already", len(kept))
    beside = target if target.is_dir() else target.parent
    beside.mkdir(parents=True, exist_ok=True)
    failed, written = [], []
    with tempfile.TemporaryDirectory(dir=beside, prefix=".segment-") as temporary:
        settings = {"dataset_dir": root, "output_dir": config_path(temporary, "OUT"), **(overrides or {})}
        for scan, error in _infer(bundle, scans, settings):
            failed += [error] if error else []
            for mask in Path(temporary).rglob("*_seg.*"):
                goals[scan].parent.mkdir(parents=True, exist_ok=True)
                written.append(Path(shutil.move(mask, goals[scan])))
    if written:
        _tell(bundle, target, len(written))
    if failed:
        raise InputError("\n".join(failed))
    return written


def find_segmentation_bundle(weights: str | os.PathLike[str]) -> Path:
    """The segmentation bundle with weights in a run's folder, or in the folder itself.

    Raises:
        InputError: if there is none.
    """
    for place in (Path(weights) / UNET, Path(weights)):
        if (place / "configs" / "inference.json").is_file() and (place / "models" / "model.pt").is_file():
            return place
    if not Path(weights).is_dir():
        raise InputError(
            f"--weights: there is no folder {weights}. Name that of a run: python -m ufc_monai run makes one."
        )
    raise InputError(
        f"--weights: {weights} is neither the folder of a finished run nor a bundle {UNET} with models/model.pt in it."
    )


def _check_file(target: Path, scans: Sequence[Mapping[str, str]]) -> None:
    """Refuse a file for several masks, or of another format than that of the mask."""
    if len(scans) != 1:
        raise InputError(f"OUT: {target} is one file, but there are {len(scans)} scans. Name a folder.")
    suffix = suffix_of(SaveMask("").path(scans[0]["image"]))
    if suffix_of(target) != suffix:
        raise InputError(
            f"OUT: the mask of this scan is written as *{suffix}, got {target.name}. Name a *{suffix} file."
        )


def _refuse_scans(goals: Mapping[str, Path]) -> None:
    """Refuse to write a mask to the place of a scan."""
    there = {os.path.realpath(image) for image in goals}
    for goal in goals.values():
        if os.path.realpath(goal) in there:
            raise InputError(f"OUT: the scan {goal} would be written over by a mask. Name another file or folder.")


def _still_to_do(
    scans: Sequence[dict[str, str]], goals: Mapping[str, Path], existing: str
) -> tuple[list[dict[str, str]], list[Path]]:
    """The scans to segment, given that some have a mask; and the masks to keep."""
    there = [goals[scan["image"]] for scan in scans if goals[scan["image"]].exists()]
    if there and existing == "refuse":
        more = f" and {len(there) - 1} more are" if len(there) > 1 else " is"
        raise InputError(
            f"OUT: {there[0]}{more} there already, maybe corrected by hand. Pass --existing overwrite to make them "
            "anew, --existing keep to make the others alone, or name another place."
        )
    if existing != "keep":
        return list(scans), []
    return [scan for scan in scans if not goals[scan["image"]].exists()], there


def _labels(bundle: Path) -> dict[str, int]:
    labels: dict[str, int] = read_record(bundle / "models" / "network.json", "--weights")["labels"]
    return labels


def _check_kept(path: Path, ids: Sequence[int]) -> None:
    """Refuse a mask whose values are not the ids, or may be the 1..n of earlier versions; they would mix in silence."""
    try:
        mask = LoadVolume()(path)[0].as_tensor().numpy()
    except InputError as error:
        logger.warning("%s is kept, though nobody can tell what it holds (%s)", path, error)
        return
    values = sorted(set().union(*(np.unique(axial).tolist() for axial in np.moveaxis(mask, -1, 0))) - {0})
    strange = [value for value in values if value not in ids]
    old = all(value <= len(ids) for value in values) and any(ids[int(value) - 1] != value for value in values)
    if strange or (old and not has_mark(path)):
        found = ", ".join(f"{value:g}" for value in (strange or values)[:5])
        why = "which are no ids of these weights" if strange else "which earlier versions wrote for the classes 1 to n"
        raise InputError(
            f"OUT: {path} cannot be kept: it holds {found}, {why}; masks hold the ids {', '.join(map(str, ids))}. "
            "Move it away, or pass --existing overwrite."
        )


def _tell(bundle: Path, target: Path, n: int) -> None:
    named = ", ".join(f"{i} {name}" for name, i in _labels(bundle).items())
    logger.info("%d mask%s: %s (0 background, %s)", n, "s" * (n > 1), target, named)


def _infer(
    bundle: Path, scans: Sequence[Mapping[str, str]], overrides: Mapping[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """Run the bundle on one scan after the other: the image of each, and what is wrong with it if it failed."""
    for name, level in (("monai.bundle.workflows", logging.ERROR), ("ignite", logging.CRITICAL + 1)):
        logging.getLogger(name).setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "inference.json"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="infer",
            bundle_root=config_path(bundle, "--weights"),
            # the scans come later: in a configuration a name that begins with $ would be run
            **{"dataset::data": [{}], "handlers": [], **overrides},
        )
        with unwrapped():
            workflow.initialize()
            dataset, network, evaluator = (
                workflow.parser.get_parsed_content(key) for key in ("dataset", "network", "evaluator")
            )
            load_weights(network, bundle / "models")
        evaluator.interrupt_resume_enabled = False  # else a failed run could only be gone on with
        for scan in tqdm(scans, "segment", unit="scan", disable=None):
            dataset.data = [scan]
            failed = None
            try:
                evaluator.run()
            except Exception as error:
                words = last_words(error)
                failed = words if find_input_error(error) else f"{scan['image']}: {words}"
            yield scan["image"], failed
