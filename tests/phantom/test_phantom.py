"""The synthetic patients: what is promised of every one, whatever is drawn."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.phantom.chest import STRAY_LABEL, STRUCTURES
from ufc_monai.phantom.ct import Patient, draw_patient, make_phantom, render

MATRIX = 48
PATIENTS = range(12)
LEFT = ("left_ventricle", "left_atrium")
RIGHT = ("right_ventricle", "right_atrium")


def test_the_structures_are_those_of_the_data_set() -> None:
    assert {name: structure.id for name, structure in STRUCTURES.items()} == MMWHS_LABELS


@cache
def drawn(n: int) -> tuple[Patient, NDArray[np.int16], NDArray[np.uint16]]:
    """Patient ``n`` of seed 0 with image and label, as ``make_phantom`` draws it."""
    rng = np.random.default_rng([0, n])
    patient = draw_patient(rng, MATRIX)
    return patient, *render(patient, rng)


def mean_hu(n: int, name: str, *, core: bool = False) -> float:
    """Of the structure's voxels, or of those in its ``core``, which the blur at its border does not reach."""
    _, hu, label = drawn(n)
    inside = label == MMWHS_LABELS[name]
    return float(hu[ndimage.binary_erosion(inside) if core else inside].mean())


def load(path: Path) -> Any:
    return nib.load(path)


def voxels(folder: Path, **options: Any) -> list[NDArray[np.int16]]:
    return [np.asarray(load(p).dataobj) for p in make_phantom(folder, matrix=40, **options)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients, the last one unlabelled."""
    folder = tmp_path_factory.mktemp("patients")
    make_phantom(folder, patients=3, labelled=2, matrix=MATRIX)
    return folder


@pytest.mark.parametrize("n", PATIENTS)
def test_every_structure_is_there_and_nothing_else(n: int) -> None:
    patient, _, label = drawn(n)
    ids = {0, *MMWHS_LABELS.values()} | ({STRAY_LABEL} if patient.stray else set())
    assert set(np.unique(label).tolist()) == ids


def test_stray_voxels_are_few_and_only_in_some() -> None:
    counts = [int((drawn(n)[2] == STRAY_LABEL).sum()) for n in PATIENTS]
    assert 0 < np.count_nonzero(counts) < len(counts)
    assert max(counts) <= 5


def test_stray_voxels_touch_the_left_atrium() -> None:
    label = drawn(next(n for n in PATIENTS if drawn(n)[0].stray))[2]
    for x, y, z in np.argwhere(label == STRAY_LABEL):
        around = label[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2]
        assert (around == MMWHS_LABELS["left_atrium"]).any()


@pytest.mark.parametrize("n", PATIENTS)
def test_heart_lies_within_the_volume(n: int) -> None:
    label = drawn(n)[2] > 0
    for axis in range(3):
        ends = label.take([0, -1], axis)
        assert not ends.any(), f"a label at an end of axis {axis}"


@pytest.mark.parametrize("n", PATIENTS)
def test_chambers_have_the_contrast_that_was_drawn(n: int) -> None:
    patient = drawn(n)[0]
    assert 250 < patient.chest.left_blood < 450
    assert 120 < patient.chest.right_blood < 400
    for names, contrast in ((LEFT, patient.chest.left_blood), (RIGHT, patient.chest.right_blood)):
        for name in names:
            assert mean_hu(n, name, core=True) == pytest.approx(contrast, rel=0.1), name


@pytest.mark.parametrize("n", PATIENTS)
def test_myocardium_is_darker_than_the_blood_of_the_left_heart(n: int) -> None:
    assert 70 < mean_hu(n, "myocardium") < 140
    assert all(mean_hu(n, name) > mean_hu(n, "myocardium") + 80 for name in (*LEFT, "aorta"))


@pytest.mark.parametrize("n", PATIENTS)
def test_the_heart_is_surrounded_by_a_chest(n: int) -> None:
    _, hu, label = drawn(n)
    middle = int(np.argwhere(label)[:, 2].mean())
    lungs = ((hu > -920) & (hu < -750)).mean((0, 1))
    assert lungs[middle] > 0.08
    assert lungs[0] < 0.7 * lungs[middle], "the abdomen is below"
    assert np.mean(hu[:, :, middle] > 200) > 0.01, "bones"


@pytest.mark.parametrize("n", PATIENTS)
def test_the_body_lies_within_the_field_of_view(n: int) -> None:
    hu = drawn(n)[1]
    assert hu[[0, -1]].mean(1).max() < -950
    assert hu[:, [0, -1]].mean(0).max() < -950


@pytest.mark.parametrize("n", PATIENTS)
def test_left_is_left(n: int) -> None:
    """In RAS order, x grows to the right, y to the front and z to the head."""
    centre = {name: np.argwhere(drawn(n)[2] == i).mean(0) for name, i in MMWHS_LABELS.items()}
    assert centre["left_ventricle"][0] < centre["right_atrium"][0]
    assert centre["left_atrium"][1] < centre["right_ventricle"][1]
    assert centre["left_ventricle"][2] < centre["aorta"][2]


def test_patients_differ_within_the_stated_ranges() -> None:
    patients = [drawn(n)[0] for n in PATIENTS]
    assert all(2.5 <= p.spacing[2] <= 6 and 24 <= p.matrix[2] <= 44 for p in patients)
    assert {p.matrix[0] for p in patients} == {MATRIX}
    assert len({p.matrix[1] for p in patients}) == 2, "square and other slices"
    assert len({p.matrix[2] for p in patients}) > 4
    assert len({p.spacing for p in patients}) == len(patients)


def test_files_of_labelled_and_unlabelled_patients(folder: Path) -> None:
    cases = find_cases(folder)
    assert [case.image for case in cases] == [f"ct_train_{n}_image.nii.gz" for n in (1001, 1002, 1003)]
    assert [case.label for case in cases] == ["ct_train_1001_label.nii.gz", "ct_train_1002_label.nii.gz", None]
    assert len(list(folder.iterdir())) == 5, "nothing but images and labels"


def test_label_lies_on_its_image(folder: Path) -> None:
    for n in (1001, 1002):
        image, label = (load(folder / f"ct_train_{n}_{kind}.nii.gz") for kind in ("image", "label"))
        assert image.get_data_dtype() == np.int16
        assert label.get_data_dtype() == np.uint16
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)


@pytest.mark.parametrize(("n", "orientation"), [(0, "RAS"), (1, "LPS")])
def test_stored_orientation_keeps_every_voxel_in_its_place(folder: Path, n: int, orientation: str) -> None:
    patient, hu, _ = drawn(n)
    image = load(folder / f"ct_train_{1001 + n}_image.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == orientation
    np.testing.assert_allclose(image.header.get_zooms(), patient.spacing, rtol=1e-5)
    upright = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(np.asarray(upright.dataobj), hu)
    np.testing.assert_allclose(upright.affine[:3, 3], patient.origin, rtol=1e-5, atol=1e-3)


def test_same_seed_same_voxels_whoever_is_labelled(tmp_path: Path) -> None:
    one, other = voxels(tmp_path / "one", patients=2), voxels(tmp_path / "other", patients=3, labelled=0)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


def test_another_seed_other_voxels(tmp_path: Path) -> None:
    (one,), (other,) = (voxels(tmp_path / str(seed), patients=1, seed=seed) for seed in (0, 1))
    assert one.shape != other.shape or (one != other).any()


def test_an_interrupted_run_leaves_no_image_without_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = nib.save

    def full_disk(volume: Any, path: Path) -> None:
        if any(tmp_path.glob("ct_*")):
            raise OSError("disk full")
        save(volume, path)

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OSError, match="disk full"):
        make_phantom(tmp_path, patients=1, matrix=40)
    assert [path.name for path in tmp_path.iterdir()] == ["ct_train_1001_label.nii.gz"]
