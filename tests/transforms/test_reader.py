"""One volume reads the same from every format, and pictures stand upright."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd
from scans import FILES, OBLIQUE, SHAPE, STRAIGHT, make_image, sitk, write_all, write_dicom

from ufc_monai.base.errors import InputError
from ufc_monai.report.drawing import radiological
from ufc_monai.transforms import pictures
from ufc_monai.transforms.reader import SimpleITKReader
from ufc_monai.transforms.volume import LoadVolume, LoadVolumed

BOTH = ["image", "label"]


@pytest.mark.parametrize("angle", [STRAIGHT, OBLIQUE])
def test_every_format_gives_what_nibabel_gives(tmp_path: Path, angle: float) -> None:
    first, *others = write_all(tmp_path, angle)
    nifti = nib.load(first)
    expected = torch.from_numpy(nifti.get_fdata(dtype=np.float32))
    for path in others:
        volume = LoadVolume()(path)
        assert volume.dtype == torch.float32
        assert volume.shape == (1, *SHAPE)
        assert torch.equal(volume[0].as_tensor(), expected), path
        assert np.allclose(volume.affine, nifti.affine, atol=1e-5), path  # NIfTI's is single precision
        assert volume.affine.dtype == torch.float64
        assert np.array_equal(volume.meta["original_affine"], volume.affine)
        assert volume.meta["spatial_shape"].tolist() == list(SHAPE)
        assert volume.meta["space"] == "RAS"
        assert volume.meta["filename_or_obj"] == path


def test_dicom_is_stored_with_an_intercept(tmp_path: Path) -> None:
    image = make_image(STRAIGHT)
    write_dicom(tmp_path / "series", image)
    stored = [np.frombuffer(f.read_bytes()[-2 * 30 :], dtype="<i2") for f in (tmp_path / "series").iterdir()]
    expected = [piece.ravel() + 1024 for piece in sitk.GetArrayFromImage(image)]
    assert sorted(s.tolist() for s in stored) == sorted(e.tolist() for e in expected)


def test_each_dicom_slice_is_rescaled_by_its_own_slope(tmp_path: Path) -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i, slope in enumerate((1, 0.5)):
        piece = sitk.GetImageFromArray(np.full((3, 3), 7 + 0.5 * i if i else 7, dtype=np.float64 if i else np.int16))
        tags = {"0008|0018": f"1.2.{i + 1}", "0020|000e": "1.2", "0020|0037": "1\\0\\0\\0\\1\\0"}
        tags |= {"0020|0032": f"0\\0\\{2 * i}", "0028|1052": "0", "0028|1053": str(slope)}
        for tag, value in (tags | {"0028|0100": "16", "0028|0101": "16", "0028|0102": "15", "0028|0103": "1"}).items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(tmp_path / f"{i}.dcm")
        writer.Execute(piece)
    assert LoadVolume()(str(tmp_path))[0, 0, 0].tolist() == [7, 7.5]


def test_a_dicom_image_and_its_flipped_nifti_label_come_to_lie_on_each_other(tmp_path: Path) -> None:
    image = make_image(STRAIGHT)
    write_dicom(tmp_path / "series", image)
    # dcm2niix stores the rows from back to front
    flipped = sitk.Flip(image, (False, True, False))
    sitk.WriteImage(flipped, tmp_path / "label.nii.gz")
    assert not torch.equal(*(LoadVolume()(str(tmp_path / x)).as_tensor() for x in ("series", "label.nii.gz")))
    item = LoadVolumed(BOTH)({"image": str(tmp_path / "series"), "label": str(tmp_path / "label.nii.gz")})
    assert torch.equal(item["image"].as_tensor(), item["label"].as_tensor())
    assert np.allclose(item["image"].affine, item["label"].affine, atol=1e-5)


def test_a_missing_dicom_slice_is_noticed(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", make_image(OBLIQUE), leave_out={1})
    with pytest.raises(InputError, match=r"series: 1 of the 2 gaps .* usual 2\.5 mm"):
        LoadVolume()(str(tmp_path / "series"))


@pytest.mark.parametrize("name", ["9.dcm", "9.DCM", "9.ima", "1.2.9"])
def test_a_slice_that_is_cut_off_in_its_preamble_is_noticed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "series"
    write_dicom(folder, make_image(OBLIQUE))
    for other in ("._1.dcm", "README", "notes.txt"):  # macOS writes the first beside each file of another system
        (folder / other).write_bytes(bytes(100))
    assert LoadVolume()(str(folder)).shape == (1, *SHAPE)
    (folder / name).write_bytes(bytes(100))
    with pytest.raises(InputError, match=f"1 of its DICOM files cannot be read as slices .* first {name}"):
        LoadVolume()(str(folder))


def test_a_tilted_gantry_is_noticed(tmp_path: Path) -> None:
    image = make_image(STRAIGHT)
    for i in range(4):
        image.SetOrigin((0, 1.0 * i, 0))
        write_dicom(tmp_path / "series", image, leave_out=set(range(4)) - {i})
    with pytest.raises(InputError, match=r"3 of the 3 gaps .* tilted"):
        LoadVolume()(str(tmp_path / "series"))


def test_two_series_in_one_folder_are_refused(tmp_path: Path) -> None:
    for uid in ("1.2.3.4", "1.2.3.5"):
        write_dicom(tmp_path / "series", make_image(STRAIGHT), uid=uid)
    with pytest.raises(InputError, match=r"series: expected one DICOM series in the folder, found 2"):
        LoadVolume()(str(tmp_path / "series"))


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one DICOM series in the folder, found 0"):
        LoadVolume()(str(tmp_path))


def test_a_single_dicom_slice_is_a_volume(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", make_image(STRAIGHT), leave_out={1, 2, 3})
    assert LoadVolume()(str(tmp_path / "series")).shape == (1, 6, 5, 1)


def test_a_dicom_file_is_read_as_a_series_is(tmp_path: Path) -> None:
    write_dicom(tmp_path / "series", make_image(STRAIGHT), leave_out={1, 2, 3})
    (one,) = (tmp_path / "series").iterdir()
    file = tmp_path / "a.dcm"
    file.write_bytes(one.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    assert torch.equal(LoadVolume()(str(file)), LoadVolume()(str(one.parent)))
    sitk.WriteImage(sitk.Cast(make_image(STRAIGHT) + 1024, sitk.sitkUInt16), file)
    with pytest.raises(InputError, match=r"a\.dcm: an enhanced or multi-frame DICOM file, with 4 slices"):
        LoadVolume()(str(file))


def test_an_unknown_suffix_is_answered_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.txt: expected one of \*\.nii\.gz, .*\*\.mha, .* DICOM series"):
        LoadVolumed("image")({"image": str(tmp_path / "a.txt")})


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.png", "a.jpg"])
def test_an_unreadable_file_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no volume")
    with pytest.raises(InputError, match=f"{name}: cannot be read as a volume") as caught:
        LoadVolume()(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_nrrd_may_write_its_fields_in_capitals(tmp_path: Path) -> None:
    sitk.WriteImage(make_image(OBLIQUE), tmp_path / "a.nrrd")
    (tmp_path / "b.nrrd").write_bytes((tmp_path / "a.nrrd").read_bytes().replace(b"\nspace: ", b"\nSpace: "))
    assert torch.equal(*(LoadVolume()(str(tmp_path / name)).as_tensor() for name in ("a.nrrd", "b.nrrd")))


def test_volumes_of_several_channels_are_refused(tmp_path: Path) -> None:
    vectors = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), dtype=np.uint8), isVector=True)
    four_d = sitk.GetImageFromArray(np.zeros((2, 4, 5, 6), dtype=np.uint8))
    for image in (vectors, four_d):
        sitk.WriteImage(image, tmp_path / "a.nrrd")
        with pytest.raises(InputError, match=r"a\.nrrd: expected a 3D volume of one channel"):
            LoadVolume()(str(tmp_path / "a.nrrd"))


def test_suffixes_of_the_reader(tmp_path: Path) -> None:
    understands = SimpleITKReader().verify_suffix
    assert all(understands(name) for name in (*FILES[1:], "A.PNG", "b.JPEG", tmp_path))
    assert not any(understands(name) for name in ("a.nii.gz", "a.nii", "a.txt", "gone", ["a.mha", "a.nii"]))


def upright(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A picture as the reports draw it after all of a bundle's orienting."""
    load = Compose([LoadVolumed("image"), Orientationd("image", axcodes="RAS", labels=None)])
    volume = load({"image": str(path)})["image"]
    assert volume.shape[3] == 1
    return radiological(volume[0, :, :, 0].numpy())


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels), tmp_path / "a.png")
    assert LoadVolume()(str(tmp_path / "a.png")).shape == (1, 7, 5, 1)
    assert np.array_equal(upright(tmp_path / "a.png"), pixels)


def test_colours_become_grey_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures._say_that_colours_are_lost.cache_clear()
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    green = np.stack([0 * grey, grey, 0 * grey], axis=-1)
    for name, pixels in {"grey": np.stack([grey] * 3, axis=-1), "green": green}.items():
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), tmp_path / f"{name}.png")
    with caplog.at_level(logging.INFO):
        assert np.array_equal(upright(tmp_path / "grey.png"), grey)  # a mask stored in colours keeps its ids
        assert np.allclose(upright(tmp_path / "green.png"), 0.7154 * grey)
    assert [r.message for r in caplog.records] == [
        "colour pictures are read as grey ones (luminance); channels 3 keeps the colours"
    ]


def test_opacity_is_left_out(tmp_path: Path) -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    transparent = np.stack([grey, grey, grey, 255 - grey], axis=-1)
    sitk.WriteImage(sitk.GetImageFromArray(transparent, isVector=True), tmp_path / "a.png")
    assert np.array_equal(upright(tmp_path / "a.png"), grey)


def save_colours(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A picture of 5 x 7 pixels with opacity."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 4)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), path)
    return pixels


def test_colours_are_kept_on_demand_and_stand_upright(tmp_path: Path) -> None:
    pixels = save_colours(tmp_path / "a.png")
    volume = LoadVolume(channels=3)(str(tmp_path / "a.png"))
    assert volume.shape == (3, 7, 5, 1)
    load = Compose([LoadVolumed("image", channels=3), Orientationd("image", axcodes="RAS", labels=None)])
    picture = load({"image": str(tmp_path / "a.png")})["image"].numpy()
    assert np.array_equal(radiological(np.moveaxis(picture[..., 0], 0, -1)), pixels[..., :3])


def test_a_grey_picture_in_three_channels_is_repeated(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    sitk.WriteImage(sitk.GetImageFromArray(grey), tmp_path / "a.png")
    volume = LoadVolume(channels=3)(str(tmp_path / "a.png"))
    assert volume.shape == (3, 4, 3, 1)
    assert all(np.array_equal(channel[..., 0], grey.T) for channel in volume.numpy())


def test_the_label_of_a_colour_picture_has_one_channel(tmp_path: Path) -> None:
    pixels = save_colours(tmp_path / "a.png")
    for name, mask in {"grey": pixels[..., 0], "coloured": np.stack([pixels[..., 0]] * 3, axis=-1)}.items():
        sitk.WriteImage(sitk.GetImageFromArray(mask, isVector=mask.ndim == 3), tmp_path / f"{name}.png")
        files = {"image": str(tmp_path / "a.png"), "label": str(tmp_path / f"{name}.png")}
        item = LoadVolumed(["image", "label"], channels=3)(files)
        assert item["image"].shape == (3, 7, 5, 1)
        assert np.array_equal(item["label"][0, ..., 0], pixels[..., 0].T)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "series"])
def test_a_volume_has_no_colours(tmp_path: Path, name: str) -> None:
    write_all(tmp_path, STRAIGHT)
    with pytest.raises(InputError, match=rf"{name}: channels 3 is for colour pictures .* pass --channels 1") as caught:
        LoadVolume(channels=3)(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_channels_are_one_or_three() -> None:
    with pytest.raises(InputError, match="channels must be 1, or 3 for colour pictures; got 2"):
        LoadVolume(channels=2)
