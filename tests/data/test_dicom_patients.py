from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from scans import make_image, sitk, write_dicom

from ufc_monai.data.datalist import find_cases

IDS = {"a": "Doe 17", "b": "Doe 17", "c": "Roe 4", "d": ""}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four series, two of them of one patient, and one of nobody."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for name, patient in IDS.items():
        folder = tmp_path / name
        write_dicom(folder, make_image(0.0))
        for file in folder.iterdir():
            piece = sitk.ReadImage(file)
            piece.SetMetaData("0010|0020", patient)
            writer.SetFileName(str(file))
            writer.Execute(piece)
    return tmp_path


def test_series_with_one_patient_id_are_of_one_patient(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    hashed = f"dicom_{hashlib.sha256(b'Doe 17').hexdigest()[:8]}"
    assert [case.patient for case in find_cases(root)] == [hashed, hashed, "c", "d"]
    (said,) = {record.getMessage() for record in caplog.records}
    assert f"DICOM series with one PatientID count as one patient, 2 series as 1, called {hashed}" in said
    assert "Doe" not in said


def test_a_list_that_names_patients_is_right(root: Path) -> None:
    entries = [{"image": name, "patient": f"p{name}"} if name == "a" else {"image": name} for name in IDS]
    (root / "dataset.json").write_text(json.dumps({"training": entries}))
    assert [case.patient for case in find_cases(root)] == ["pa", "b", "c", "d"]
