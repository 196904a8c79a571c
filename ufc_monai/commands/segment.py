"""``segment``: masks for new scans, from a run's folder or a bundle and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow
from tqdm import tqdm

from ufc_monai.bundles import UNET
from ufc_monai.commands.stages import config_path
from ufc_monai.data import image_items
from ufc_monai.errors import InputError, find_input_error
from ufc_monai.formats import suffix_of
from ufc_monai.transfer import load_weights, read_record
from ufc_monai.transforms import SaveMask

__all__ = ["find_segmentation_bundle", "segment"]

logger = logging.getLogger(__name__)


def segment(
    weights: str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    overrides: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Segment one scan or a folder of scans.

    Args:
        weights: the folder of a run, or of a segmentation bundle with its weights.
        source: a file, a folder with one DICOM series, or a folder of scans.
        target: for one scan the file to write, or a folder; for several a folder.
        overrides: further keys of the bundle's inference.json.

    Returns:
        The masks written, on the grids of their scans, with the class indices that network.json names.

    Raises:
        InputError: if there are no weights or no scans, and, once the masks of all others are written, naming the
            scans that cannot be read.
    """
    bundle, source, target = find_segmentation_bundle(weights), Path(source), Path(target)
    if not source.exists():
        raise InputError(f"IN: there is no file or folder {source}.")
    scans = image_items(source)
    to_file = bool(suffix_of(target)) and not target.is_dir()
    if to_file:
        _check_file(target, scans)
    root = config_path(source.parent if len(scans) == 1 and source.is_file() else source, "IN")
    _refuse_scans(scans, target if to_file else None, SaveMask(target, root))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".segment-") as temporary:
        place = Path(temporary)
        settings = {"dataset_dir": root, "output_dir": config_path(place, "OUT"), **(overrides or {})}
        failed = _infer(bundle, scans, settings)
        masks = sorted(path for path in place.rglob("*_seg.*"))
        written = [_move(mask, target if to_file else target / mask.relative_to(place)) for mask in masks]
    if written:
        labels = read_record(bundle / "models" / "network.json", "--weights")["labels"]
        named = ", ".join(f"{index} {name}" for index, name in enumerate(labels, start=1))
        logger.info("%d mask%s: %s (0 background, %s)", len(written), "s" * (len(written) > 1), target, named)
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


def _refuse_scans(scans: Sequence[Mapping[str, str]], file: Path | None, saver: SaveMask) -> None:
    """Refuse to write a mask to the place of a scan."""
    there = {os.path.realpath(scan["image"]) for scan in scans}
    for scan in scans:
        goal = file or saver.path(scan["image"])
        if os.path.realpath(goal) in there:
            raise InputError(f"OUT: the scan {goal} would be written over by a mask. Name another file or folder.")


def _infer(bundle: Path, scans: list[dict[str, str]], overrides: Mapping[str, Any]) -> list[str]:
    """Run the bundle on one scan after the other; what is wrong with those that fail comes back."""
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
        try:
            workflow.initialize()
            dataset, network, evaluator = (
                workflow.parser.get_parsed_content(key) for key in ("dataset", "network", "evaluator")
            )
            load_weights(network, bundle / "models")
        except RuntimeError as error:
            raise find_input_error(error) or error from error
        evaluator.interrupt_resume_enabled = False  # else a failed run could only be gone on with
        failed = []
        for scan in tqdm(scans, "segment", unit="scan", disable=None):
            dataset.data = [scan]
            try:
                evaluator.run()
            except Exception as error:
                failed.append(str(find_input_error(error) or f"{scan['image']}: {error}"))
    return failed


def _move(mask: Path, goal: Path) -> Path:
    goal.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(mask, goal)
    return goal
