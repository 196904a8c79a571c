"""Mixing slices: boxes from the neighbour, the same in image, label and weight."""

from __future__ import annotations

import pytest
import torch

from ufc_monai.transforms.batch import BatchAugment
from ufc_monai.transforms.mix import MixSlices, MixSlicesd


def batch(b: int = 6, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Slices of which every pixel tells which slice it is of."""
    label = torch.arange(b, dtype=torch.uint8)[:, None, None, None].expand(b, 1, side, side).clone()
    return label.float() / 10, label


def test_a_box_of_the_neighbour_alike_in_all_maps() -> None:
    image, label = batch()
    mixed, classes, weight = MixSlices(seed=3)(image, label, image + 1)
    assert classes.dtype == torch.uint8
    assert torch.equal(mixed, classes.float() / 10)
    assert torch.equal(weight, mixed + 1)
    for i, j in ((0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)):
        assert set(classes[i].flatten().tolist()) <= {i, j}
        inside = classes[i, 0] == j
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns[None, :]), "one box"
        assert inside.any()


def test_the_last_of_an_odd_batch_takes_the_first() -> None:
    (_, classes) = MixSlices()(*batch(3))
    assert set(classes[2].flatten().tolist()) == {0, 2}
    (_, alone) = MixSlices()(*batch(1))
    assert torch.equal(alone, batch(1)[1])


def test_boxes_have_the_area_and_aspect_asked_for() -> None:
    boxes = MixSlices(area=(0.1, 0.3), aspect=(0.5, 2.0)).randomize(500, (100, 80))[:, 0]
    area = boxes.float().mean(dim=(1, 2))
    assert 0.09 < area.min() < 0.12
    assert 0.27 < area.max() < 0.31
    height, width = boxes.any(2).sum(1) / 100, boxes.any(1).sum(1) / 80
    assert 0.45 < (height / width).min() < 0.6
    assert 1.7 < (height / width).max() < 2.2
    assert ((boxes.any(2)[:, 0]) | (boxes.any(2)[:, -1])).float().mean() < 0.2, "anywhere in the slice"


@pytest.mark.parametrize("augment", [None, BatchAugment(brightness=0.2)])
def test_the_twin_keeps_each_slice_and_appends_it_mixed(augment: BatchAugment | None) -> None:
    image, label = batch(4)
    found = MixSlicesd(["image", "label"], MixSlices(seed=3), augment)({"image": image, "label": label, "id": "x"})
    assert torch.equal(found["image"][:4], image)
    assert torch.equal(found["label"][:4], label)
    assert torch.equal(found["label"][4:], MixSlices(seed=3)(label)[0])
    assert torch.equal(found["image"][4:], found["label"][4:].float() / 10) is (augment is None)
    assert found["id"] == "x"
