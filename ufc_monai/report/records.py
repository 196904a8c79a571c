"""The ``run.json`` of a run's stages, and whether what they describe still stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.base.files import found_json, sha256_of

STAGES = {
    "stage 1, training": f"{VAE}/eval/train",
    "stage 1, features and clusters": f"{VAE}/eval/inference",
    "stage 2, pretraining": f"{CONTRASTIVE}/eval/train",
    "stage 2, linear probe": f"{CONTRASTIVE}/eval/probe",
    "stage 3, fine-tuning": f"{UNET}/eval/train",
    "stage 3, test": f"{UNET}/eval/evaluate",
    "stage 3, masks of unlabelled volumes": f"{UNET}/eval/inference",
    "stage 3, fine-tuning from random weights": f"{UNET}/eval/random_train",
    "stage 3, test from random weights": f"{UNET}/eval/random_evaluate",
}
"""Where the stages of a run leave their records, by title."""
BEFORE = {
    f"{VAE}/eval/inference": f"{VAE}/eval/train",
    f"{CONTRASTIVE}/eval/train": f"{VAE}/eval/inference",
    f"{CONTRASTIVE}/eval/probe": f"{CONTRASTIVE}/eval/train",
    f"{UNET}/eval/train": f"{CONTRASTIVE}/eval/train",
    f"{UNET}/eval/evaluate": f"{UNET}/eval/train",
    f"{UNET}/eval/inference": f"{UNET}/eval/train",
    f"{UNET}/eval/random_evaluate": f"{UNET}/eval/random_train",
}
"""The stage that each stage goes on from."""


def read_record(folder: Path, place: str) -> dict[str, Any]:
    """The record of a stage; empty if it has not run.

    Args:
        folder: of the run.
        place: of the stage in it, one of the values of ``STAGES``.
    """
    return found_json(folder / place / "run.json", "--folder")


def standing_record(folder: Path, place: str) -> dict[str, Any]:
    """The record of a stage that is complete and up to date; empty otherwise.

    A stage is out of date if a file that it was made from has another content now, or if the stage that it goes on
    from has itself been begun anew and not finished, or is out of date. A stage before that never ran here (weights
    from elsewhere) says nothing.
    """
    record = read_record(folder, place)
    if record.get("status") != "complete":
        return {}
    for file in record.get("inputs", {}).values():
        path = _here(folder, file["path"]) if file else None
        if path is not None and path.is_file() and sha256_of(path) != file["sha256"]:
            return {}
    before = BEFORE.get(place)
    if before and (folder / before).is_dir() and not standing_record(folder, before):
        return {}
    return record


def _here(folder: Path, path: str) -> Path:
    """A file's place in the run's folder, which may have been moved since."""
    parts = Path(path).parts
    inside = next((i for i, part in enumerate(parts) if part in BUNDLES), None)
    return Path(path) if inside is None else folder.joinpath(*parts[inside:])
