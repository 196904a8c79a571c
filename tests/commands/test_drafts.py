"""``label --studies``: a run's masks as first drafts of a server's scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ufc_monai.base.bundles import UNET
from ufc_monai.base.chain import MASKS
from ufc_monai.base.errors import InputError
from ufc_monai.commands import label


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With masks of the ids 0 and 7 of three scans, and an app."""
    bundle = tmp_path / "run" / UNET
    for part in ("configs/train.json", "models/model.pt", "models/network.json"):
        (bundle / part).parent.mkdir(parents=True, exist_ok=True)
        (bundle / part).write_text(json.dumps({"labels": {"spleen": 3, "liver": 7}}))
    masks = tmp_path / "run" / MASKS.place / "images"
    masks.mkdir(parents=True)
    for name in ("anna", "ben", "cleo"):
        nib.save(
            nib.Nifti1Image(np.full((2, 3, 4), 7, np.uint8), np.diag([2.0, 2, 5, 1])), masks / f"{name}_seg.nii.gz"
        )
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").touch()
    monkeypatch.setattr(label, "check_mask_values", lambda _: None)
    monkeypatch.setattr(label, "write_metadata", lambda *_, **__: None)
    monkeypatch.setattr(label, "named_classes", lambda _: {"spleen": 3, "liver": 7})
    monkeypatch.setattr(label, "standing_record", lambda *_: {"status": "complete"})
    return tmp_path


def studies_of(place: Path, **there: str) -> Path:
    """Scans of anna, ben and dora; by tag, whose label is there already."""
    for name in ("anna", "ben", "dora"):
        (place / "studies" / f"{name}.nii.gz").parent.mkdir(exist_ok=True)
        (place / "studies" / f"{name}.nii.gz").touch()
    for tag, name in there.items():
        (place / "studies" / "labels" / tag).mkdir(parents=True)
        (place / "studies" / "labels" / tag / f"{name}.nii.gz").write_text("painted")
    return place / "studies"


def content(studies: Path) -> dict[str, Any]:
    files = sorted((studies / "labels").rglob("*.nii.gz"))
    return {p.relative_to(studies / "labels").as_posix(): p.read_bytes()[:7] == b"painted" for p in files}


@pytest.mark.parametrize(("values", "number"), [("ids", 7), ("channels", 2)])
def test_masks_become_drafts_and_never_what_is_trained_on(a_run: Path, values: str, number: int) -> None:
    studies = studies_of(a_run)
    label.put_into_app(a_run / "run", a_run / "app", values, studies)
    assert content(studies) == {"original/anna.nii.gz": False, "original/ben.nii.gz": False}
    draft = nib.load(studies / "labels" / "original" / "anna.nii.gz")
    assert np.unique(np.asarray(draft.dataobj)).tolist() == [number]
    np.testing.assert_array_equal(draft.affine, np.diag([2.0, 2, 5, 1]))


def test_what_somebody_has_painted_stays(a_run: Path) -> None:
    studies = studies_of(a_run, original="anna", final="ben")
    label.put_into_app(a_run / "run", a_run / "app", studies=studies)
    assert content(studies) == {"original/anna.nii.gz": True, "final/ben.nii.gz": True}


def test_masks_that_are_out_of_date_are_no_drafts(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label, "standing_record", lambda *_: {})
    label.put_into_app(a_run / "run", a_run / "app", studies=studies_of(a_run))
    assert content(a_run / "studies") == {}


def test_a_folder_that_is_not_there_is_refused_before_anything_is_copied(a_run: Path) -> None:
    with pytest.raises(InputError, match="--studies: there is no folder"):
        label.put_into_app(a_run / "run", a_run / "app", studies=a_run / "nowhere")
    assert not (a_run / "app" / "model").exists()
