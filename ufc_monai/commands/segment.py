"""``segment``: masks for new scans, from a run's folder or a bundle and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from ufc_monai.engines import find_input_error
from ufc_monai.errors import InputError
from ufc_monai.transfer import read_network

__all__ = ["find_segmentation_bundle", "segment"]

logger = logging.getLogger(__name__)

NAME = "ufc_unet_segmentation"


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
        InputError: if there are no weights, no scans, or one of them cannot be read.
    """
    bundle, source, target = find_segmentation_bundle(weights), Path(source), Path(target)
    network = read_network(bundle / "models", NAME)
    if not source.exists():
        raise InputError(f"IN: there is no file or folder {source}.")
    to_file = bool(target.suffix) and not target.is_dir()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".segment-") as temporary:
        place = Path(temporary)
        _infer(bundle, {"dataset_dir": str(source), "output_dir": str(place), **(overrides or {})})
        masks = sorted(path for path in place.rglob("*_seg.*"))
        written = _move_to_file(masks, target) if to_file else _move_into(masks, place, target)
    named = ", ".join(f"{index} {name}" for index, name in enumerate(network["labels"], start=1))
    logger.info("%d masks written to %s (0 background, %s)", len(written), target, named)
    return written


def find_segmentation_bundle(weights: str | os.PathLike[str]) -> Path:
    """The segmentation bundle with weights in a run's folder, or in the folder itself.

    Raises:
        InputError: if there is none.
    """
    for place in (Path(weights) / NAME, Path(weights)):
        if (place / "configs" / "inference.json").is_file() and (place / "models" / "model.pt").is_file():
            return place
    raise InputError(
        f"--weights: {weights} is neither the folder of a run nor a bundle {NAME} with models/model.pt in it."
    )


def _infer(bundle: Path, overrides: Mapping[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "inference.json"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="infer",
            bundle_root=str(bundle),
            **overrides,
        )
        try:
            workflow.initialize()
            workflow.run()
        except Exception as error:
            raise find_input_error(error) or error from error
        finally:
            workflow.finalize()


def _move_to_file(masks: list[Path], target: Path) -> list[Path]:
    if len(masks) != 1:
        raise InputError(f"OUT: {target} is one file, but there are {len(masks)} scans. Name a folder.")
    suffix = "".join(masks[0].suffixes[-2:]) if masks[0].name.endswith(".nii.gz") else masks[0].suffix
    if not target.name.endswith(suffix):
        raise InputError(
            f"OUT: the mask of this scan is written as *{suffix}, got {target.name}. Name a *{suffix} file."
        )
    shutil.move(masks[0], target)
    return [target]


def _move_into(masks: list[Path], place: Path, folder: Path) -> list[Path]:
    written = []
    for mask in masks:
        goal = folder / mask.relative_to(place)
        goal.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(mask, goal)
        written.append(goal)
    return written
