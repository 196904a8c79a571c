from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from scans import make_image, sitk, write_dicom

from ufc_monai.data.datalist import account, find_cases

IDS = {"a": "Doe 17", "b": "Doe 17", "c": "Roe 4", "d": ""}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four series, two of them of one patient, and one of nobody."""
    for name, patient in IDS.items():
        write_series(tmp_path / name, patient)
    return tmp_path


def write_series(folder: Path, patient: str, uid: str = "1.2.3.4") -> None:
    """A series of somebody."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    write_dicom(folder, make_image(0.0), uid)
    for file in folder.iterdir():
        piece = sitk.ReadImage(file)
        piece.SetMetaData("0010|0020", patient)
        writer.SetFileName(str(file))
        writer.Execute(piece)


def test_series_with_one_patient_id_are_of_one_patient(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    hashed = f"dicom_{hashlib.sha256(b'Doe 17').hexdigest()[:8]}"
    assert [case.patient for case in find_cases(root)] == [hashed, hashed, "c", "d"]
    (said,) = {record.getMessage() for record in caplog.records}
    assert f"DICOM series with one PatientID count as one patient, 2 scans as 1, called {hashed}" in said
    assert "Doe" not in said


def test_a_series_in_two_folders_is_asked_about(tmp_path: Path) -> None:
    for name, uid in {"a": "1.2.3", "b": "1.2.4", "c": "1.2.3"}.items():
        write_series(tmp_path / name, name, uid)
    said = "parts or copies of one DICOM series: a and c. Are they parts? Put its files into one folder."
    assert account(tmp_path)[-1] == said


def test_a_list_that_names_patients_is_right(root: Path) -> None:
    entries = [{"image": name, "patient": f"p{name}"} if name == "a" else {"image": name} for name in IDS]
    (root / "dataset.json").write_text(json.dumps({"training": entries}))
    assert [case.patient for case in find_cases(root)] == ["pa", "b", "c", "d"]


def test_single_files_with_one_patient_id_are_of_one_patient(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for i, patient in enumerate(IDS.values()):
        write_series(tmp_path / f"series_{i}", patient, f"1.2.{i + 1}")
        root.mkdir(exist_ok=True)
        next((tmp_path / f"series_{i}").iterdir()).rename(root / f"s{i}.dcm")
    one, other, third, nobody = (case.patient for case in find_cases(root))
    assert (one == other, third, nobody) == (True, "s2", "s3")


@pytest.mark.parametrize(
    ("ids", "patients"),
    [
        ({"sub-01_ses-1": "X", "sub-01_ses-2": "Y", "sub-01_ses-3": "X", "sub-02": "Z"}, [1, 1, 1, 2]),
        ({"sub-01_ses-1": "X", "sub-01_ses-2": "", "sub-02": "X", "sub-03": ""}, [1, 1, 1, 2]),
        ({"sub-01_ses-1": "X", "sub-01_ses-2": "Y", "sub-02": "Y", "sub-03": "X"}, [1, 1, 1, 1]),
        ({"sub-01_ses-1": "X", "sub-01_ses-2": "X", "sub-02": "Y", "sub-03": "Z"}, [1, 1, 2, 3]),
    ],
)
def test_what_names_join_stays_joined(tmp_path: Path, ids: dict[str, str], patients: list[int]) -> None:
    for name, patient in ids.items():
        write_series(tmp_path / name, patient)
    found = [case.patient for case in find_cases(tmp_path)]
    order = list(dict.fromkeys(found))
    assert [order.index(patient) + 1 for patient in found] == patients
