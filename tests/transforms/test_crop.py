"""The box holds the body and nothing of the couch, and never costs a labelled voxel."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground

from ufc_monai.base.errors import InputError
from ufc_monai.transforms.crop import BodyCrop, label_region

AIR, TISSUE = -1000.0, 40.0
SHAPE = (60, 48, 5)


def ellipse(centre: tuple[float, float], half: tuple[float, float]) -> torch.Tensor:
    """A mask of ``SHAPE`` with one ellipse in all slices."""
    x, y = torch.arange(SHAPE[0])[:, None, None], torch.arange(SHAPE[1])[None, :, None]
    inside = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 < 1
    return inside.expand(SHAPE)


BODY = ellipse((30, 26), (16, 10))


def scan(*tissue: torch.Tensor) -> MetaTensor:
    image = torch.full(SHAPE, AIR)
    for mask in tissue:
        image[mask] = TISSUE
    return MetaTensor(image[None])


def body_cropped(item: dict[str, Any], region: Sequence[float] | None = None) -> dict[str, Any]:
    """An image, and labels if it has any, cut and padded to the body's box by MONAI."""
    image, labels = item["image"], {key: x for key, x in item.items() if key != "image"}
    start, end = BodyCrop(region).box_around(image, list(labels.values()))
    cut = partial(CropForeground().crop_pad, box_start=start, box_end=end, mode="constant")
    return {"image": cut(image, value=float(image.min()))} | {key: cut(x, value=0.0) for key, x in labels.items()}


def couch(gap: int) -> torch.Tensor:
    """A board of 2 pixels below the body."""
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    top = 16 - gap
    mask[6:54, top - 1 : top + 1] = True
    return mask


@pytest.mark.parametrize("gap", [0, 2, 5])
def test_the_couch_is_left_out(gap: int) -> None:
    without, with_couch = BodyCrop().compute_bounding_box(scan(BODY)), scan(BODY, couch(gap))
    start, end = BodyCrop().compute_bounding_box(with_couch)
    assert (abs(start - without[0]) <= 2).all()
    assert (abs(end - without[1]) <= 2).all()
    assert body_cropped({"image": with_couch})["image"].shape[1] < 40  # the board is 48 wide


def test_box_is_square_holds_the_body_and_all_slices() -> None:
    image = scan(BODY)
    cropped = body_cropped({"image": image})["image"]
    assert cropped.shape[1] == cropped.shape[2]
    assert cropped.shape[3] == SHAPE[2]
    assert torch.count_nonzero(cropped == TISSUE) == torch.count_nonzero(image == TISSUE)
    rows, columns = torch.nonzero((image[0] == TISSUE).any(dim=2).as_tensor(), as_tuple=True)
    body_side = max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) + 1
    assert body_side <= cropped.shape[1] <= body_side + 4


def test_box_beyond_the_image_is_filled_with_air() -> None:
    wide = ellipse((30, 24), (29.5, 20))
    cropped = body_cropped({"image": scan(wide), "label": MetaTensor(wide[None].float())})
    image, label = cropped["image"], cropped["label"]
    assert image.shape[1] == image.shape[2] > SHAPE[1]
    assert image[0, 0, 0, 0] == AIR
    assert label[0, 0, 0, 0] == 0
    assert label.sum() == wide.sum()


def test_a_noisy_air_is_no_body() -> None:
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)) * 50
    start, end = BodyCrop().compute_bounding_box(MetaTensor(scan(BODY) + noise))
    expected = BodyCrop().compute_bounding_box(scan(BODY))
    assert (abs(start - expected[0]) <= 1).all()
    assert (abs(end - expected[1]) <= 1).all()


@pytest.mark.parametrize(
    "tissue",
    [(), (ellipse((14, 24), (10, 12)), ellipse((44, 24), (10, 12))), (couch(0),)],
    ids=["empty", "two legs", "couch alone"],
)
def test_without_one_body_the_whole_slice_is_taken(tissue: Sequence[torch.Tensor]) -> None:
    image = scan(*tissue)
    cropped = body_cropped({"image": image})["image"]
    assert cropped.shape == (1, 60, 60, 5)
    assert torch.count_nonzero(cropped == TISSUE) == torch.count_nonzero(image == TISSUE)


def test_a_small_thing_beside_the_body_does_not_widen_the_box() -> None:
    small = ellipse((5, 42), (3, 3))
    without, beside = (BodyCrop().compute_bounding_box(image) for image in (scan(BODY), scan(BODY, small)))
    assert np.array_equal(beside, without)


def test_a_label_outside_of_the_body_takes_the_whole_slice() -> None:
    label = torch.zeros(1, *SHAPE)
    label[0, 1, 1, 0] = 3
    cropped = body_cropped({"image": scan(BODY), "label": MetaTensor(label)})
    assert cropped["label"].shape == cropped["image"].shape == (1, 60, 60, 5)
    assert cropped["label"].sum() == 3


def test_a_region_may_cut_labels() -> None:
    label = MetaTensor(BODY[None].float())
    cropped = body_cropped({"image": scan(BODY), "label": label}, [0, 0.5, 0, 0.5])
    assert 0 < cropped["label"].sum() < label.sum()


@pytest.mark.parametrize("region", [[0.25, 0.75, 0.25, 0.75], [0.5, 0.9, 0.2, 0.4], [-0.4, 0.3, 0.9, 1.5]])
def test_region_is_a_square_around_its_fractions(region: list[float]) -> None:
    image = scan(BODY)
    body_start, body_end = BodyCrop().compute_bounding_box(image)
    start, end = BodyCrop(region=region).compute_bounding_box(image)
    side = (body_end - body_start)[0]
    assert (end - start)[0] == (end - start)[1]
    for axis, (low, high) in enumerate((region[:2], region[2:])):
        assert start[axis] <= body_start[axis] + low * side + 1
        assert end[axis] >= body_start[axis] + high * side - 1
    longest = max(region[1] - region[0], region[3] - region[2]) * side
    assert (end - start)[0] == pytest.approx(longest, abs=2)
    assert body_cropped({"image": image}, region)["image"].shape[1:3] == tuple((end - start)[:2])


@pytest.mark.parametrize("region", [[0, 1, 0], [1, 0, 0, 1], [0, 1, 0.5, 0.5], []])
def test_what_is_no_region_is_refused(region: list[float]) -> None:
    with pytest.raises(InputError, match="region must be null or 4 fractions"):
        BodyCrop(region=region)


def test_label_region_holds_every_label_with_its_margin() -> None:
    labels = [MetaTensor(ellipse(c, (4, 3))[None].float()) for c in ((26, 24), (34, 28))]
    images = [scan(BODY)] * 2
    region = label_region(images, labels, margin=0.1)
    tight = label_region(images, labels, margin=0.0)
    assert [r - t for r, t in zip(region, tight, strict=True)] == pytest.approx([-0.1, 0.1, -0.1, 0.1], abs=0.002)
    for image, label in zip(images, labels, strict=True):
        cropped = body_cropped({"image": image, "label": label}, tight)
        assert cropped["label"].sum() == label.sum()


def test_volumes_without_a_labelled_voxel_say_nothing_about_the_region() -> None:
    image, label, empty = (
        scan(BODY),
        MetaTensor(ellipse((30, 26), (4, 3))[None].float()),
        MetaTensor(torch.zeros(1, *SHAPE)),
    )
    assert label_region([image, image], [label, empty]) == label_region([image], [label])
    with pytest.raises(InputError, match="labelled voxel"):
        label_region([image], [empty])


def test_a_colour_picture_is_kept_as_it_is() -> None:
    picture = torch.rand(3, 9, 6, 1, generator=torch.Generator().manual_seed(0))
    item = body_cropped({"image": MetaTensor(picture), "label": MetaTensor(picture[:1] > 0.5)})
    assert torch.equal(torch.as_tensor(item["image"]), picture)
    assert item["label"].shape == (1, 9, 6, 1)


def test_a_single_slice_is_kept_whole_and_padded_to_a_square() -> None:
    image = scan(BODY)[..., :1]
    cropped = body_cropped({"image": image})["image"]
    assert cropped.shape == (1, 60, 60, 1)
    assert torch.equal(cropped[:, :, 6:54], image)
