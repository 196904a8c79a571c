"""Loading and cutting volumes; and what every transform of this package has to keep to."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Orientationd

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.transforms import reader
from ufc_monai.transforms.batch import BatchAugment, BatchAugmentd
from ufc_monai.transforms.labels import ClassesToIds, ClassesToIdsd, RemapLabels, RemapLabelsd
from ufc_monai.transforms.views import TwoViews, TwoViewsd
from ufc_monai.transforms.volume import AxialSlices, AxialSlicesd, LoadVolume, LoadVolumed

PATIENT = "ct_train_1001"


def _augment() -> BatchAugment:
    return BatchAugment(rotation=20, field=(0.8, 1.1), shift=0.1, gamma=(0.8, 1.2), noise=0.1, blur=0.5, seed=3)


def _path(phantom: Path) -> str:
    return str(phantom / f"{PATIENT}_image.nii.gz")


def _image(phantom: Path) -> Any:
    return LoadVolume()(_path(phantom))


def _label(phantom: Path) -> Any:
    return LoadVolume()(str(phantom / f"{PATIENT}_label.nii.gz"))


def _batch(phantom: Path) -> torch.Tensor:
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


# (array transform, dictionary twin with the key "x", input); random ones start from one seed
TWINS: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Path], Any]]] = {
    "LoadVolume": (LoadVolume, lambda: LoadVolumed("x"), _path),
    "AxialSlices": (AxialSlices, lambda: AxialSlicesd("x"), _image),
    "RemapLabels": (
        lambda: RemapLabels(MMWHS_LABELS, [421]),
        lambda: RemapLabelsd("x", MMWHS_LABELS, [421]),
        _label,
    ),
    "ClassesToIds": (
        lambda: ClassesToIds({"a": 500, "b": 2}),
        lambda: ClassesToIdsd("x", {"a": 500, "b": 2}),
        lambda phantom: (_label(phantom) > 0).byte(),
    ),
    "BatchAugment": (_augment, lambda: BatchAugmentd("x", _augment()), _batch),
    "TwoViews": (lambda: TwoViews(_augment()), lambda: TwoViewsd("x", _augment()), _batch),
}


def _plain(result: Any) -> Any:
    """What a transform returned as plain tensors, to compare."""
    if isinstance(result, tuple):
        result = result[0]
    if isinstance(result, list):
        return torch.stack([torch.as_tensor(r["x"] if isinstance(r, dict) else r) for r in result])
    return torch.as_tensor(result["x"] if isinstance(result, dict) else result)


@pytest.mark.parametrize("name", TWINS)
def test_transform_equals_its_twin_and_survives_pickling(name: str, phantom: Path) -> None:
    make_array, make_twin, make_input = TWINS[name]
    value = make_input(phantom)
    expected = _plain(make_array()(value))
    results = [
        make_twin()({"x": value}),
        pickle.loads(pickle.dumps(make_array()))(value),
        pickle.loads(pickle.dumps(make_twin()))({"x": value}),
    ]
    for result in map(_plain, results):
        assert result.dtype == expected.dtype
        assert torch.equal(result, expected)


@pytest.mark.parametrize("name", TWINS)
def test_transform_leaves_its_input_alone(name: str, phantom: Path) -> None:
    make_array, make_twin, make_input = TWINS[name]
    value = make_input(phantom)
    item = {"x": value, "other": "kept"}
    before = copy.deepcopy(value)
    make_array()(value)
    result = make_twin()(item)
    assert list(item) == ["x", "other"]
    assert item["x"] is value
    if isinstance(value, torch.Tensor):
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(before))
        assert getattr(value, "applied_operations", None) == getattr(before, "applied_operations", None)
    if isinstance(result, dict):
        assert result["other"] == "kept"


def save(path: Path, array: np.ndarray[Any, Any]) -> str:
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return str(path)


def test_volume_is_channel_first_and_knows_its_file(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = save(tmp_path / "a.nii.gz", array)
    volume = LoadVolume()(path)
    assert isinstance(volume, MetaTensor)
    assert volume.dtype == torch.float32
    assert np.array_equal(volume[0], array)
    assert volume.meta["filename_or_obj"] == path


@pytest.mark.parametrize("voxel", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_are_refused(tmp_path: Path, voxel: float) -> None:
    array = np.zeros((3, 3, 3), dtype=np.float32)
    array[1, 1, 1] = voxel
    with pytest.raises(InputError, match=r"a\.nii: holds NaN or infinite voxels"):
        LoadVolume()(save(tmp_path / "a.nii", array))


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3, 2)])
def test_what_is_no_volume_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.nii: expected a 3D volume of one channel"):
        LoadVolume()(save(tmp_path / "a.nii", np.zeros(shape, dtype=np.float32)))


def test_an_unreadable_file_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"no volume")
    with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read as a volume") as caught:
        LoadVolumed("image")({"image": str(path)})
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("isal", [True, False])
def test_whatever_inflates_a_volume_compares_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isal: bool
) -> None:
    """Each of some single bits in the compressed voxels is noticed; without damage both read the same."""
    monkeypatch.setattr(reader, "quicker", isal)
    array = np.random.default_rng(0).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    sound = Path(save(tmp_path / "a.nii.gz", array)).read_bytes()
    assert np.array_equal(LoadVolume()(str(tmp_path / "a.nii.gz"))[0], array)
    for place in range(len(sound) // 2, len(sound) - 4, len(sound) // 40):
        damaged = bytearray(sound)
        damaged[place] ^= 16
        (tmp_path / "a.nii.gz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read as a volume"):
            LoadVolume()(str(tmp_path / "a.nii.gz"))


def test_image_and_label_have_to_share_a_grid(tmp_path: Path) -> None:
    item = {
        "image": save(tmp_path / "a.nii", np.zeros((3, 3, 3), dtype=np.uint8)),
        "label": save(tmp_path / "b.nii", np.zeros((3, 3, 4), dtype=np.uint8)),
    }
    with pytest.raises(
        InputError, match=r"b\.nii: the label of .*a\.nii has another shape than the image: 3x3x4 and 3x3x3 voxels\."
    ):
        LoadVolumed(["image", "label"])(item)


def test_a_label_along_other_axes_is_turned_to_those_of_its_image(tmp_path: Path) -> None:
    """Both by itself, as the test of a run reads it, and however the image is read."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(array, np.diag([1.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "a.nii")
    nib.save(image.as_reoriented(nib.orientations.axcodes2ornt("LPI")), tmp_path / "b.nii")
    item = LoadVolumed(["image", "label"])({"image": str(tmp_path / "a.nii"), "label": str(tmp_path / "b.nii")})
    assert torch.equal(item["label"].as_tensor(), item["image"].as_tensor())
    assert torch.equal(item["label"].affine, item["image"].affine)


def test_a_missing_label_may_be_allowed(tmp_path: Path) -> None:
    item = {"image": save(tmp_path / "a.nii", np.zeros((3, 3, 3), dtype=np.uint8))}
    assert set(LoadVolumed(["image", "label"], allow_missing_keys=True)(item)) == {"image"}


def test_slices_run_from_the_feet_to_the_head_in_either_orientation(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    upright = nib.Nifti1Image(array, np.eye(4))
    upside_down = upright.as_reoriented(nib.orientations.axcodes2ornt("RAI"))
    transform = Compose(
        [LoadVolumed("image"), Orientationd("image", axcodes="RAS", labels=None), AxialSlicesd("image")]
    )
    for name, volume in {"upright": upright, "upside_down": upside_down}.items():
        nib.save(volume, tmp_path / f"{name}.nii")
        slices = transform({"image": str(tmp_path / f"{name}.nii")})
        assert all(np.array_equal(s["image"][0], array[:, :, i]) for i, s in enumerate(slices))


def test_slice_items_name_image_patient_and_position(tmp_path: Path) -> None:
    volume = MetaTensor(torch.zeros(1, 2, 2, 4), meta={"filename_or_obj": str(tmp_path / "below" / "a.nii.gz")})
    slices = AxialSlicesd("image", root=tmp_path)({"image": volume, "patient": 7})
    assert [s["id"] for s in slices] == [f"below/a.nii.gz#{i}" for i in range(4)]
    assert [s["position"] for s in slices] == [0.125, 0.375, 0.625, 0.875]
    assert {s["patient"] for s in slices} == {"7"}
    assert not any(isinstance(s["image"], MetaTensor) for s in slices)


def test_an_image_elsewhere_keeps_its_absolute_path(tmp_path: Path) -> None:
    cut = AxialSlicesd("image", root=tmp_path / "data")
    assert cut.image_name({"image": str(tmp_path / "data" / "a.nii")}) == "a.nii"
    assert cut.image_name({"image": str(tmp_path / "else" / "a.nii")}) == str(tmp_path / "else" / "a.nii")


def test_that_a_codec_is_missing_is_not_said(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pydicom")
    caplog.set_level(logging.DEBUG, "monai.data.nvimgcodec_pydicom_plugin")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        LoadVolumed(["image"])
        LoadVolume()
    assert not said
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
