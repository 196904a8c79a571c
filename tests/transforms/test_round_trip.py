"""Random volumes, however they are stored: cut into slices and put back, they are what they were."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose, Orientationd, Resized, ScaleIntensityRanged
from numpy.typing import NDArray
from test_crop import body_cropped
from torch.nn import functional as F

from ufc_monai.data.slices import SliceDataset
from ufc_monai.transforms import crop
from ufc_monai.transforms.grid import NetworkGridd
from ufc_monai.transforms.labels import RemapLabelsd
from ufc_monai.transforms.save import RestoreGridd, SaveMaskd
from ufc_monai.transforms.volume import AxialSlicesd, LoadVolumed

IMAGE_TYPES = (np.int16, np.uint8, np.uint16, np.int32, np.float32, np.float64)
LABEL_TYPES = (np.uint8, np.int16, np.int64, np.float32, np.float64)
IDS = {"liver": 5, "spleen": 2}
BOTH = ["image", "label"]
QUICK = settings(max_examples=12, deadline=None, derandomize=True)
MANY = settings(max_examples=150, deadline=None)


class Stored(NamedTuple):
    """A volume as its file has it.

    Attributes:
        image: voxels, along the file's axes.
        label: ids.
        affine: of both.
        turn: nibabel's orientation of the file's axes.
    """

    image: NDArray[Any]
    label: NDArray[Any]
    affine: NDArray[np.float64]
    turn: NDArray[Any]

    def save(self, folder: Path) -> dict[str, str]:
        item = {key: str(folder / f"{key}.nii.gz") for key in BOTH}
        for key in BOTH:
            array = getattr(self, key)
            nib.save(nib.Nifti1Image(array, self.affine, dtype=array.dtype), item[key])
        return item


@st.composite
def volumes(draw: st.DrawFn) -> Stored:
    """Any shape, spacing, order and direction of axes, origin, and type of voxels."""
    shape = tuple(draw(st.tuples(st.integers(9, 20), st.integers(9, 20), st.integers(1, 7))))
    spacing = draw(st.tuples(*[st.floats(0.3, 6.0)] * 3))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    order, flips = draw(st.permutations(range(3))), draw(st.tuples(*[st.sampled_from((-1, 1))] * 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    body = np.zeros(shape, dtype=int)
    body[2:-2, 2:-2] = generator.integers(1, 250, (shape[0] - 4, shape[1] - 4, shape[2]))
    label = np.where(body > 0, generator.choice([0, *IDS.values()], shape), 0)
    turn = np.array([*zip(order, flips, strict=True)])
    ras = np.diag([*spacing, 1.0])
    ras[:3, 3] = origin
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    image, label = (nib.apply_orientation(array, back) for array in (body, label))
    affine = ras @ nib.orientations.inv_ornt_aff(back, shape)
    kinds = draw(st.sampled_from(IMAGE_TYPES)), draw(st.sampled_from(LABEL_TYPES))
    return Stored(image.astype(kinds[0]), label.astype(kinds[1]), affine, turn)


def classes(label: NDArray[Any]) -> NDArray[np.uint8]:
    found = np.zeros(label.shape, dtype=np.uint8)
    for n, i in enumerate(IDS.values(), start=1):
        found[label == i] = n
    return found


def check_slices(stored: Stored) -> None:
    """Slices that come out of the store, stacked from the feet up, are the volume along the patient's axes."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        steps = [LoadVolumed(BOTH), Orientationd(BOTH, axcodes="RAS", labels=None), RemapLabelsd("label", IDS)]
        transform = Compose([*steps, AxialSlicesd(BOTH, root=folder)])
        slices = SliceDataset([stored.save(folder)], transform, folder / "cache")
        stacked = {key: torch.stack([slices[i][key][0] for i in range(len(slices))], dim=-1) for key in BOTH}
        assert [item["id"] for item in slices.items] == [f"image.nii.gz#{i}" for i in range(len(slices))]
    expected = nib.apply_orientation(stored.image, stored.turn).astype(np.float32)
    assert np.array_equal(stacked["image"].numpy(), expected)
    assert np.array_equal(stacked["label"].numpy(), nib.apply_orientation(classes(stored.label), stored.turn))


def check_mask(stored: Stored, margin: int) -> None:
    """A mask that needs no resampling comes back voxel by voxel, on the file's own grid, also in the file written."""
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as constants:
        for name, value in {"THRESHOLD": 0.5, "MARGIN": margin, "WORN_AWAY": 1}.items():
            constants.setattr(crop, name, value)
        folder = Path(place)
        item = stored.save(folder)
        remap = RemapLabelsd("label", IDS)
        both = [LoadVolumed(BOTH), Orientationd(BOTH, axcodes="RAS", labels=None), remap, body_cropped]
        label = Compose(both)(item)["label"].as_tensor()[0].long()
        logits = F.one_hot(label, len(IDS) + 1).permute(3, 0, 1, 2).float()
        transform = Compose(
            [LoadVolumed("image", dtype=None), NetworkGridd("image", len(label), (0, 255))]
        )  # the image alone
        restored = RestoreGridd("pred")({**transform({"image": item["image"]}), "pred": logits})
        mask = SaveMaskd("pred", folder / "masks")(restored)["pred"]
        written = nib.load(folder / "masks" / "image_seg.nii.gz")
        for affine in (mask.affine.numpy(), written.affine):
            assert np.allclose(affine, stored.affine, atol=1e-4)
        assert np.array_equal(mask[0].numpy(), classes(stored.label))
        assert np.array_equal(np.asarray(written.dataobj), classes(stored.label))


def check_grid(stored: Stored, size: int, region: list[float] | None, flips: tuple[int, int, int]) -> None:
    """One pass gives what MONAI's transforms give behind each other, to the bit, and lies where they put it.

    The label's file may run along its axes in other directions than the image's.
    """
    with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as constants:
        constants.setattr(crop, "THRESHOLD", 0.5)
        item, remap = stored.save(Path(place)), RemapLabelsd("label", IDS)
        nib.save(nib.load(item["label"]).as_reoriented([[i, flip] for i, flip in enumerate(flips)]), item["label"])
        usual: list[Any] = [LoadVolumed(BOTH), Orientationd(BOTH, axcodes="RAS", labels=None), remap]
        usual += [partial(body_cropped, region=region)]
        usual += [ScaleIntensityRanged("image", a_min=20, a_max=200, b_min=0.0, b_max=1.0, clip=True)]
        expected = Compose([*usual, Resized(BOTH, (size, size, -1), mode=["area", "nearest"])])(item)
        found = Compose([LoadVolumed(BOTH, dtype=None), remap, NetworkGridd(BOTH, size, (20, 200), region)])(item)
    for key in BOTH:
        assert torch.equal(found[key].as_tensor(), expected[key].as_tensor())
        assert torch.allclose(found[key].affine, expected[key].affine, atol=1e-6)


@QUICK
@given(
    volumes(),
    st.integers(3, 24),
    st.sampled_from([None, [0.1, 0.6, 0.2, 1.2]]),
    st.tuples(*[st.sampled_from((-1, 1))] * 3),
)
def test_one_pass_is_what_monai_does_in_many(
    stored: Stored, size: int, region: list[float] | None, flips: tuple[int, int, int]
) -> None:
    check_grid(stored, size, region, flips)


@pytest.mark.parametrize("region", [[-1.0, -0.5, 0.0, 1.0], [1.5, 2.0, 0.0, 1.0]])
def test_a_region_beside_the_volume_shows_air_and_comes_back_empty(region: list[float], tmp_path: Path) -> None:
    voxels = np.full((9, 9, 4), 40, dtype=np.int16)
    voxels[0] = -1000
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    steps = [LoadVolumed("image", dtype=None), NetworkGridd("image", 8, (-100, 100), region)]
    item = Compose(steps)({"image": str(tmp_path / "a.nii")})
    assert not item["image"].any()
    mask = RestoreGridd("pred")({**item, "pred": torch.eye(2)[1][:, None, None, None].expand(2, 8, 8, 4)})["pred"]
    assert mask.shape == (1, 9, 9, 4)
    assert not mask.any()


@QUICK
@given(volumes())
def test_slices_restacked_are_the_volume(stored: Stored) -> None:
    check_slices(stored)


@QUICK
@given(volumes(), st.integers(0, 4))
def test_masks_lie_on_the_grid_of_their_image(stored: Stored, margin: int) -> None:
    check_mask(stored, margin)


@pytest.mark.slow
@MANY
@given(volumes())
def test_slices_of_many_volumes(stored: Stored) -> None:
    check_slices(stored)


@pytest.mark.slow
@MANY
@given(volumes(), st.integers(0, 4))
def test_masks_of_many_volumes(stored: Stored, margin: int) -> None:
    check_mask(stored, margin)
