"""``label --studies``: a run's masks as first drafts of a server's scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ufc_monai.base.bundles import UNET
from ufc_monai.base.chain import MASKS, QUALITY
from ufc_monai.base.errors import InputError
from ufc_monai.commands import label
from ufc_monai.quality.table import HEAD, write_quality


def volume(path: Path, value: int = 0, depth: int = 4, shift: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([2.0, 2, 5, 1])
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.full((2, 3, depth), value, np.uint8), affine), path)


def judge(place: Path, *scans: str) -> None:
    """The run's masks, and what it says of them."""
    for scan in scans:
        volume(place / "run" / MASKS.place / f"{scan}_seg.nii.gz", 7)
    rows = [(f"{scan}.nii.gz", name, *[""] * (len(HEAD) - 2)) for scan in scans for name in ("spleen", "liver")]
    write_quality(place / "run" / QUALITY, rows)


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With masks of the ids 0 and 7 of three scans, and an app."""
    bundle = tmp_path / "run" / UNET
    for part in ("configs/train.json", "models/model.pt", "models/network.json"):
        (bundle / part).parent.mkdir(parents=True, exist_ok=True)
        (bundle / part).write_text(json.dumps({"labels": {"spleen": 3, "liver": 7}}))
    judge(tmp_path, "images/anna", "images/ben", "images/cleo")
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
        volume(place / "studies" / f"{name}.nii.gz")
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


def test_masks_that_are_out_of_date_are_no_drafts(
    a_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(label, "standing_record", lambda *_: {})
    label.put_into_app(a_run / "run", a_run / "app", studies=studies_of(a_run))
    assert content(a_run / "studies") == {}
    assert "no drafts: the run has no masks that are up to date" in caplog.text


def test_a_mask_of_another_scan_is_no_draft(a_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    judge(a_run, "p1/anna", "p2/anna", "ben", "dora", "emil")
    studies = studies_of(a_run)
    volume(studies / "ben.nii.gz", depth=9)
    volume(studies / "dora.nii.gz", shift=3)
    (studies / "emil.nii.gz").touch()
    label.put_into_app(a_run / "run", a_run / "app", studies=studies)
    assert content(studies) == {}
    assert "no draft of anna.nii.gz, ben.nii.gz, dora.nii.gz, emil.nii.gz: several scans" in caplog.text


def test_a_mask_that_an_earlier_run_left_is_no_draft(a_run: Path) -> None:
    judge(a_run, "images/anna")
    studies = studies_of(a_run)
    label.put_into_app(a_run / "run", a_run / "app", studies=studies)
    assert content(studies) == {"original/anna.nii.gz": False}


def test_where_drafts_cannot_be_written_the_command_can_be_given_again(a_run: Path) -> None:
    studies = studies_of(a_run)
    (studies / "labels").touch()
    with pytest.raises(InputError, match="Not a directory"):
        label.put_into_app(a_run / "run", a_run / "app", studies=studies)
    assert list((a_run / "app" / "model").iterdir()) == []
    (studies / "labels").unlink()
    label.put_into_app(a_run / "run", a_run / "app", studies=studies)
    assert len(content(studies)) == 2


def test_a_folder_that_is_not_there_is_refused_before_anything_is_copied(a_run: Path) -> None:
    with pytest.raises(InputError, match="--studies: there is no folder"):
        label.put_into_app(a_run / "run", a_run / "app", studies=a_run / "nowhere")
    assert not (a_run / "app" / "model").exists()
