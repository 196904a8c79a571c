from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from conftest import NAMES
from scans import OBLIQUE, STRAIGHT, make_image, sitk, write_dicom

from ufc_monai.__main__ import main
from ufc_monai.base.errors import InputError
from ufc_monai.transforms import dicom_seg
from ufc_monai.transforms.dicom_seg import codes_of, write_dicom_seg
from ufc_monai.transforms.volume import LoadVolume

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

CT = "1.2.840.10008.5.1.4.1.1.2"
"""The storage class of CT slices."""
PATIENT = "Doe^Jane Secret"
IDS = {"liver": 7, "spleen": 2, "aorta": 300}
DCMQI = Path(sys.executable).with_name("segimage2itkimage")


def a_series(folder: Path, angle: float) -> Path:
    """A series as a scanner writes it, of a patient with a name."""
    write_dicom(folder, make_image(angle))
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.PatientName, header.PatientID, header.FrameOfReferenceUID = PATIENT, "ID-4711", "1.2.9"
        header.PatientBirthDate, header.PatientSex, header.StudyDate, header.StudyTime = "", "", "", ""
        header.AccessionNumber, header.StudyID, header.ReferringPhysicianName = "", "", ""
        header.SOPClassUID = CT
        header.save_as(path)
    return folder


def a_mask(folder: Path, series: Path) -> tuple[Path, Any]:
    """Random structures on the series' grid, in the file that ``segment`` makes of them, and as an array."""
    image = LoadVolume()(series)
    rng = np.random.default_rng(1)
    array = rng.choice([0, *IDS.values()], image.shape[1:]).astype(np.uint16)
    array[..., 1] = 0  # a slice without any
    nib.save(nib.Nifti1Image(array, image.affine.numpy()), folder / "mask.nii.gz")
    return folder / "mask.nii.gz", array


@pytest.fixture(params=[STRAIGHT, OBLIQUE])
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any, Path]:
    series = a_series(tmp_path / "series", request.param)
    mask, array = a_mask(tmp_path, series)
    write_dicom_seg(tmp_path / "seg.dcm", mask, series, IDS, codes_of(list(IDS)))
    return tmp_path / "seg.dcm", array, series


def test_each_frame_is_that_of_the_slice_that_it_refers_to(written: tuple[Path, Any, Path]) -> None:
    """Read by pydicom alone, and laid on the slices' own rows and columns."""
    path, array, series = written
    seg, files = pydicom.dcmread(path), [pydicom.dcmread(file) for file in series.iterdir()]
    volume, places = LoadVolume()(series)[0].numpy(), {}
    for file in files:
        pixels = file.pixel_array * float(file.RescaleSlope) + float(file.RescaleIntercept)
        (places[file.SOPInstanceUID],) = (k for k in range(volume.shape[2]) if np.array_equal(volume[..., k].T, pixels))
    found = np.zeros_like(array)
    for frame, groups in zip(seg.pixel_array, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        found[..., places[source]][frame.T > 0] = [*IDS.values()][number - 1]
    np.testing.assert_array_equal(found, array)
    assert seg.Modality == "SEG"
    assert (seg.PatientID, seg.FrameOfReferenceUID, seg.StudyInstanceUID) == ("ID-4711", "1.2.9", "1.2.3")
    assert [s.SegmentLabel for s in seg.SegmentSequence] == [*IDS]
    kinds = [s.SegmentedPropertyTypeCodeSequence[0] for s in seg.SegmentSequence]
    assert (kinds[0].CodeValue, kinds[0].CodingSchemeDesignator) == ("10200004", "SCT")


@pytest.mark.skipif(not DCMQI.is_file(), reason="dcmqi is not installed")
def test_dcmqi_reads_every_voxel_back(written: tuple[Path, Any, Path], tmp_path: Path) -> None:
    command = [str(DCMQI), "--inputDICOM", str(written[0]), "--outputDirectory", str(tmp_path), "--outputType", "nii"]
    subprocess.run(command, capture_output=True, check=True)
    expected = nib.as_closest_canonical(nib.load(tmp_path / "mask.nii.gz"))
    for number, i in enumerate(IDS.values(), start=1):
        read = nib.as_closest_canonical(nib.load(tmp_path / f"{number}.nii.gz"))
        want = np.asarray(expected.dataobj) == i
        # dcmqi leaves out slices without a structure at the ends
        offset = np.rint((np.linalg.inv(expected.affine) @ read.affine)[:3, 3]).astype(int)
        box = tuple(slice(o, o + n) for o, n in zip(offset, read.shape, strict=True))
        np.testing.assert_array_equal(np.asarray(read.dataobj) > 0, want[box])
        assert want.sum() == want[box].sum()
        np.testing.assert_allclose(read.affine[:3, :3], expected.affine[:3, :3], atol=1e-3)


def test_a_structure_without_a_code_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    of_list, own = codes_of(["Left_Ventricle", "oesophagus"])
    assert (of_list.value, of_list.meaning, own.value) == ("87878005", "Left ventricle", "32849002")
    with pytest.raises(InputError, match=r"no code is known for tumour, cyst. Pass --codes FILE"):
        codes_of(["liver", "tumour", "cyst"])
    table = tmp_path / "codes.csv"
    table.write_text("structure,code,scheme,meaning\nTumour,108369006,SCT,Tumor\n")
    assert codes_of(["tumour", "liver"], table)[0] == ("108369006", "SCT", "Tumor", dicom_seg.ANATOMY)
    for text in (
        f"structure,code,scheme,meaning\n{'x' * 140_000},1,SCT,a\n",
        "name,code\na,1\n",
        "structure,code,scheme,meaning\ntumour,1\n",
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=r"codes.csv cannot be read"):
            codes_of(["tumour"], table)
    table.write_text("structure,code,scheme,meaning\ntumour,,SCT,Tumor\n")
    with pytest.raises(InputError, match=r"leaves a column of tumour empty"):
        codes_of(["tumour"], table)
    for most, line in ((16, f"1,{'S' * 17},Tumor,"), (64, f"1,SCT,{'t' * 65},"), (64, f"1,SCT,Tumor,1|{'t' * 65}")):
        table.write_text(f"structure,code,scheme,meaning,category\ntumour,{line}\n")
        with pytest.raises(InputError, match=rf"codes.csv: DICOM has room for {most} characters"):
            codes_of(["tumour"], table)
    table.write_text("structure,code,scheme,meaning\ntumour,1,SCT,left\\right\n")
    with pytest.raises(InputError, match="a backslash parts values in DICOM"):
        codes_of(["tumour"], table)


def test_a_segment_has_the_category_of_its_code(tmp_path: Path) -> None:
    table = tmp_path / "codes.csv"
    table.write_text(
        "structure,code,scheme,meaning,category\naorta,108369006,SCT,Tumor,49755003|Abnormal\nliver,1,SCT,A,\n"
    )
    series = a_series(tmp_path / "series", STRAIGHT)
    mask, _ = a_mask(tmp_path, series)
    write_dicom_seg(tmp_path / "seg.dcm", mask, series, IDS, codes_of(list(IDS), table))
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    categories = [s.SegmentedPropertyCategoryCodeSequence[0] for s in segments]
    assert [c.CodeValue for c in categories] == ["91723000", "91723000", "49755003"]
    assert categories[2].CodeMeaning == "Abnormal"
    table.write_text("structure,code,scheme,meaning,category\naorta,1,SCT,Tumor,49755003\n")
    with pytest.raises(InputError, match=r"a category must be code\|meaning of SNOMED CT, got 49755003"):
        codes_of(["aorta"], table)


def test_positions_may_be_rounded_as_the_reader_allows_but_no_two_slices_share_a_place(tmp_path: Path) -> None:
    series = a_series(tmp_path / "series", STRAIGHT)
    files = sorted(series.iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    for k, path in enumerate(files):
        header = pydicom.dcmread(path)
        header.ImagePositionPatient[2], header.SliceThickness = round(-100 + 3.27 * k, 1), 3.27
        header.save_as(path)
    mask, array = a_mask(tmp_path, series)
    write_dicom_seg(tmp_path / "seg.dcm", mask, series, IDS, codes_of(list(IDS)))
    assert pydicom.dcmread(tmp_path / "seg.dcm").pixel_array.sum() == np.count_nonzero(array)
    for axis, place in ((2, -100), (0, 1000)):  # the first slice's, and beside it
        header = pydicom.dcmread(files[1])
        header.ImagePositionPatient[axis], before = place, files[1].read_bytes()
        header.save_as(files[1])
        with pytest.raises(InputError, match=r"series: a DICOM slice does not lie on the grid of the mask"):
            write_dicom_seg(tmp_path / "seg.dcm", mask, series, IDS, codes_of(list(IDS)))
        files[1].write_bytes(before)


def test_words_as_long_as_codes_may_be_are_written(tmp_path: Path) -> None:
    table = tmp_path / "codes.csv"
    words = f"{'1' * 40},{'S' * 16},{'t' * 64},{'2' * 40}|{'u' * 64}"
    table.write_text(f"structure,code,scheme,meaning,category\nliver,{words}\n")
    series = a_series(tmp_path / "series", STRAIGHT)
    write_dicom_seg(tmp_path / "seg.dcm", a_mask(tmp_path, series)[0], series, {"liver": 7}, codes_of(["liver"], table))
    segment = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0]
    assert segment.SegmentedPropertyTypeCodeSequence[0].LongCodeValue == "1" * 40


def test_what_is_wrong_names_no_patient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    series = a_series(tmp_path / "series", STRAIGHT)
    mask, _ = a_mask(tmp_path, series)
    first = next(series.iterdir())
    header = pydicom.dcmread(first)
    del header.StudyInstanceUID
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header.PatientName = PATIENT * 20
        header.save_as(first)
    caplog.clear()
    with pytest.raises(InputError, match="no DICOM SEG can be made") as caught:
        write_dicom_seg(tmp_path / "seg.dcm", mask, series, IDS, codes_of(list(IDS)))
    assert "Secret" not in str(caught.value) + caplog.text
    assert not (tmp_path / "seg.dcm").exists()


def test_without_highdicom_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_seg, "optional_import", lambda name: (None, False))
    with pytest.raises(InputError, match="the extra dicom"):
        dicom_seg.highdicom()


def test_segment_writes_it(
    chain: Path,
    phantom: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    scan = next(phantom.glob("*_image.nii.gz"))
    volume = sitk.Cast(sitk.ReadImage(str(scan)), sitk.sitkInt16)
    a_series_of = tmp_path / "in" / "series"
    (tmp_path / "in").mkdir()
    write_dicom(a_series_of, volume)
    for path in a_series_of.iterdir():
        header = pydicom.dcmread(path)
        header.PatientName, header.FrameOfReferenceUID, header.SOPClassUID = PATIENT, "1.2.9", CT
        header.save_as(path)
    words = ["segment", "--weights", str(chain / NAMES[2]), str(a_series_of), "--format"]
    assert main([*words, "same", str(tmp_path / "plain")]) == 0
    assert main([*words, "dicom_seg", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["quality.csv", "series_seg.dcm"]
    seg = pydicom.dcmread(tmp_path / "out" / "series_seg.dcm")
    mask = np.asarray(nib.load(tmp_path / "plain" / "series_seg.nii.gz").dataobj)
    assert seg.pixel_array.sum() == np.count_nonzero(mask)
    assert "Secret" not in caplog.text + "".join(capsys.readouterr())
    assert main([*words, "dicom_seg", str(a_series_of / "below")]) == 1
    assert "lies in IN" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(dicom_seg, "_segmentation", lambda *_: None)
        assert main([*words, "dicom_seg", str(tmp_path / "none")]) == 1
    assert not [*(tmp_path / "none").iterdir()], "nor a row of a mask that is not there"
    shutil.copy(scan, tmp_path / "in" / "a.nii.gz")
    words[3] = str(tmp_path / "in" / "a.nii.gz")
    assert main([*words, "dicom_seg", str(tmp_path / "out2")]) == 1
    assert "is no DICOM series" in capsys.readouterr().err
