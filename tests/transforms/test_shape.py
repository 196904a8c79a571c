"""Masks of a shape beside a batch."""

from __future__ import annotations

import pytest
import torch
from conftest import SMALL, merged

from ufc_monai.base.bundles import CONTRASTIVE, laid_over
from ufc_monai.transforms.batch import BatchAugment
from ufc_monai.transforms.shape import ShapeMasksd


def test_masks_are_drawn_and_turned_by_the_generator_of_the_images() -> None:
    bank = torch.stack([torch.full((1, 32, 32), float(n)) for n in range(4)]) / 4
    bank[:, :, :16] += 0.1
    augment = BatchAugment(rotation=180, field=(0.5, 1.0), shift=None, seed=1)
    add = ShapeMasksd(bank, augment)
    state, batch = augment.generator.get_state(), {"image": torch.rand(12, 3, 32, 32)}
    found = add(batch)
    assert found["image"] is batch["image"]
    assert found["masks"].shape == (6, 1, 32, 32)
    again = add(batch)["masks"]
    assert not torch.equal(again, found["masks"])
    augment.generator.set_state(state)
    assert torch.equal(add(batch)["masks"], found["masks"])
    augment.generator.set_state(state)
    chosen = torch.randint(4, (6,), generator=augment.generator)
    assert torch.equal(augment(bank[chosen])[0], found["masks"])


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({}, "vessels"),
        ({"shape": "heart"}, "heart"),
        ({"shape_dir": "a"}, "structure"),
        ({"shape": "b", "shape_dir": "a"}, "b"),
    ],
)
def test_a_structure_is_called_what_its_masks_show(keys: dict[str, str], name: str) -> None:
    assert merged(CONTRASTIVE, "train", *laid_over("shape_prior"), **keys).get_parsed_content("structure") == name


def test_there_is_a_mask_for_each_first_view_and_none_for_the_second() -> None:
    """Which may be mirrored."""
    parser = merged(CONTRASTIVE, "train", *laid_over("shape_prior"), **SMALL[CONTRASTIVE], device="cpu")
    prepare = parser.get_parsed_content("train::trainer::prepare_batch")
    views, (affine, masks) = prepare({"image": torch.rand(4, 1, 32, 32)}, "cpu")
    assert (len(views), len(affine), len(masks)) == (8, 8, 4)
