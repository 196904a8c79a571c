from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scans import OBLIQUE, STRAIGHT, write_all

from ufc_monai.data import inspect
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.inspect import VolumeFacts, digests_of_alike, inspect_cases
from ufc_monai.data.problems import ADVICE, BLOCKING
from ufc_monai.phantom.ct import make_phantom

IMAGE, LABEL = "ct_train_1003_image.nii.gz", "ct_train_1003_label.nii.gz"


def write(path: Path, array: NDArray[Any], affine: NDArray[Any] | None = None) -> None:
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine), path)


def arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    file = nib.load(path)
    return np.asarray(file.get_fdata(), dtype=np.float32), file.affine


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patients")
    make_phantom(folder, patients=3, matrix=40)
    return folder


@pytest.fixture
def folder(patients: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(patients, tmp_path / "data"))


def third(folder: Path, **options: Any) -> VolumeFacts:
    facts = inspect_cases(folder, labels=MMWHS_LABELS, background_labels=[421], ignore_id=9, **options)
    assert [f.image for f in facts] == [c.image for c in find_cases(folder)]
    assert not facts[0].problems
    return facts[2]


def kinds(facts: VolumeFacts) -> list[str]:
    return [problem.kind for problem in facts.problems]


def test_facts_of_a_sound_volume(folder: Path) -> None:
    facts = inspect_cases(folder, labels=MMWHS_LABELS, background_labels=[421])[1]  # stored as LPS
    image, affine = arrays(folder / facts.image)
    label, _ = arrays(folder / "ct_train_1002_label.nii.gz")
    assert (facts.patient, facts.label, facts.problems) == ("ct_train_1002", "ct_train_1002_label.nii.gz", ())
    assert facts.grid is not None
    assert facts.hu is not None
    assert (facts.grid.shape, facts.grid.orientation, facts.slices) == (image.shape, "LPS", image.shape[2])
    assert facts.grid.spacing == pytest.approx(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    assert facts.hu[0] == image.min()
    assert facts.hu[3] == image.max()
    assert facts.hu[1:3] == pytest.approx(np.percentile(image, [1, 99]).tolist())
    ids, voxels = np.unique(label, return_counts=True)
    assert facts.label_voxels == dict(zip(ids, voxels, strict=True))


def test_the_preview_is_turned_to_ras_and_shows_the_label(folder: Path) -> None:
    upright, turned, _ = inspect_cases(folder, previews=3)
    assert upright.preview is not None
    assert turned.preview is not None
    label = nib.as_closest_canonical(nib.load(folder / str(turned.label))).get_fdata()
    held = np.flatnonzero(label.any(axis=(0, 1)))
    assert turned.preview.label is not None
    np.testing.assert_array_equal(turned.preview.label, label[..., held[len(held) // 2]])
    assert upright.preview.image.shape == upright.preview.label.shape  # type: ignore[union-attr]
    assert all(f.preview is None for f in inspect_cases(folder))
    assert [f.preview is None for f in inspect_cases(folder, previews=2)] == [False, True, False]


def test_sagittal_slices_are_counted_along_the_body(folder: Path) -> None:
    image, affine = arrays(folder / IMAGE)
    turned = nib.Nifti1Image(image, affine).as_reoriented([[1, 1], [2, 1], [0, 1]])
    nib.save(turned, folder / IMAGE)
    (folder / LABEL).unlink()
    facts = third(folder)
    assert facts.grid is not None
    assert facts.grid.stored_shape == (image.shape[2], image.shape[0], image.shape[1])
    assert facts.slices == image.shape[2]


def truncate(folder: Path) -> None:
    (folder / IMAGE).write_bytes((folder / IMAGE).read_bytes()[:2000])


def truncate_label(folder: Path) -> None:
    (folder / LABEL).write_bytes((folder / LABEL).read_bytes()[:500])


def copy(folder: Path) -> None:
    shutil.copy(folder / "ct_train_1001_image.nii.gz", folder / IMAGE)
    shutil.copy(folder / "ct_train_1001_label.nii.gz", folder / LABEL)


def copy_label(folder: Path) -> None:
    """On a scan of the same grid."""
    copy(folder)
    image, affine = arrays(folder / IMAGE)
    write(folder / IMAGE, image + 1, affine)


def change_image(change: Any) -> Any:
    def apply(folder: Path) -> None:
        image, affine = arrays(folder / IMAGE)
        write(folder / IMAGE, change(image), affine)

    return apply


def change_label(change: Any) -> Any:
    def apply(folder: Path) -> None:
        label, affine = arrays(folder / LABEL)
        write(folder / LABEL, *change(label, affine))

    return apply


def moved(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    elsewhere = affine.copy()
    elsewhere[2, 3] += 20
    return elsewhere


def nan(image: NDArray[np.float32]) -> NDArray[np.float32]:
    image[3, 4, 5] = np.nan
    return image


def eight_bit(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray((image - image.min()) / np.ptp(image) * 255, dtype=np.uint8)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (truncate, "unreadable", "cannot be read"),
        (change_image(nan), "unreadable", "NaN"),
        (change_image(lambda x: np.stack([x, x], axis=-1)), "unreadable", "3D"),
        (change_image(eight_bit), "8-bit", "0 to 255"),
        (change_image(lambda x: x.clip(-125, 275)), "clipped", "-125 to 275, look clipped"),
        (change_image(lambda x: x - x.min() + 7), "not HU", "no value is below 0"),
        (change_image(lambda x: x * 30), "impossible HU", "impossible"),
        (truncate_label, "label unreadable", "its label: cannot be read"),
        (change_label(lambda x, a: (x[..., 1:], a)), "other grid", "another shape"),
        (change_label(lambda x, a: (x, moved(a))), "label elsewhere", "20.0 mm"),
        (change_label(lambda x, a: (x, a @ np.diag([-1, -1, 1, 1]))), "flipped label", "LPS"),
        (change_label(lambda x, a: (x / 2 + 0.25, a)), "no label", "not ids"),
        (change_label(lambda x, a: (np.where(x == 500, 7, x), a)), "unnamed ids", "name: 7."),
        (change_label(lambda x, a: (x * 0, a)), "empty label", "empty"),
        (change_label(lambda x, a: (x * 0 + 9, a)), "empty label", "empty"),
        (copy, "same content", "ct_train_1001_image.nii.gz"),
        (copy_label, "same label", "as that of ct_train_1001_image.nii.gz"),
    ],
)
def test_odd_files_are_named_and_the_rest_is_read(folder: Path, spoil: Any, kind: str, words: str) -> None:
    spoil(folder)
    facts = third(folder)
    assert kinds(facts) == [kind]
    assert words in facts.problems[0].text
    assert str(folder) not in facts.problems[0].text
    assert facts.problems[0].blocking == (kind in BLOCKING)
    assert kind in ADVICE


def test_few_slices_and_odd_spacing(folder: Path) -> None:
    image, affine = arrays(folder / IMAGE)
    write(folder / IMAGE, image[..., :3], affine @ np.diag([1, 1, 9, 1]))
    (folder / LABEL).unlink()
    assert kinds(third(folder)) == ["few slices", "odd spacing"]


def test_voxels_of_a_few_micrometres_may_be_in_metres(tmp_path: Path) -> None:
    for i, size in enumerate((0.0007, 0.0008)):
        voxels = np.arange(600.0).reshape(10, 10, 6) - 300 - i
        write(tmp_path / f"{i}.nii.gz", voxels, np.diag([size, size, 0.003, 1]))
    for facts in inspect_cases(tmp_path):
        (problem,) = facts.problems
        assert problem.kind == "odd spacing"
        assert "0.003 mm: is its header in metres?" in problem.text


def test_two_scans_of_one_patient_may_be_the_same_but_are_named(folder: Path) -> None:
    copy(folder)
    cases = [case for case in find_cases(folder) if case.patient != "ct_train_1002"]
    one = [type(case)(case.image, case.label, "anna") for case in cases]
    first, second = inspect_cases(folder, one)
    assert not first.problems
    assert kinds(second) == ["same content, same patient"]
    assert not second.problems[0].blocking


def test_registered_scans_of_one_patient_may_have_the_same_label(folder: Path) -> None:
    copy_label(folder)
    cases = [case for case in find_cases(folder) if case.patient != "ct_train_1002"]
    assert not any(f.problems for f in inspect_cases(folder, [type(c)(c.image, c.label, "anna") for c in cases]))


def test_without_names_every_id_may_be(folder: Path) -> None:
    assert not any(f.problems for f in inspect_cases(folder))


@pytest.mark.parametrize("angle", [STRAIGHT, OBLIQUE])
def test_one_scan_in_any_format_is_known_as_one(tmp_path: Path, angle: float) -> None:
    names = [Path(path).name for path in write_all(tmp_path, angle)]
    digests = digests_of_alike(tmp_path, names)
    assert digests.keys() == set(names)
    assert len(set(digests.values())) == 1


def test_only_scans_whose_middles_are_alike_are_read_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle one copy with another voxel at its end is alike, in the whole it is not."""
    image, affine = arrays(folder / IMAGE)
    scan = np.random.default_rng(0).integers(-1000, 1000, image.shape).astype(np.int16)
    other, end = scan[::-1].copy(), scan.copy()
    end[0, 0, 0] += 1
    for name, voxels in {"a": scan, "b": scan, "end": end, "other": other}.items():
        nib.save(nib.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(scan[:, :, ::-1], affine @ np.diag([1, 1, -1, 1])), folder / "upside_down.nii")
    read, whole = list[str](), inspect._read

    def noted(path: Path) -> Any:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(inspect, "_read", noted)
    names = ["a.nii.gz", "b.nii.gz", "end.nii.gz", "other.nii.gz"]
    digests = digests_of_alike(folder, names)
    assert sorted(read) == ["a.nii.gz", "b.nii.gz", "end.nii.gz"]
    assert digests.keys() == {"a.nii.gz", "b.nii.gz"}
    assert digests_of_alike(folder, ["a.nii.gz", "upside_down.nii"]).keys() == {"a.nii.gz", "upside_down.nii"}
