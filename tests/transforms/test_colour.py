"""Colours change as asked, for each picture of a batch by itself; and flips."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ufc_monai.base.errors import InputError
from ufc_monai.transforms.batch import BatchAugment
from ufc_monai.transforms.colour import change_colour, changes_colour

NEUTRAL = {"saturation": 1.0, "hue": 0.0, "grey": 0.0}


def pictures(batch: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, 10, 8, generator=torch.Generator().manual_seed(seed))


def changed(image: Tensor, **values: Any) -> Tensor:
    """Parameters as one number for all, or a list."""
    p = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in {**NEUTRAL, **values}.items()}
    return change_colour(image, **{name: value.expand(len(image)) for name, value in p.items()})


@pytest.mark.parametrize(("name", "value"), [("saturation", 0.9), ("hue", -0.1), ("grey", 1.0)])
def test_neutral_parameters_change_nothing(name: str, value: float) -> None:
    p = {name: torch.full((3,), neutral) for name, neutral in NEUTRAL.items()}
    assert not changes_colour(**p)
    assert changes_colour(**p | {name: torch.tensor([NEUTRAL[name], NEUTRAL[name], value])})


def test_a_third_of_the_circle_turns_red_to_green() -> None:
    red = torch.tensor([0.8, 0.1, 0.1]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(changed(red, hue=2 * math.pi / 3), red.roll(1, dims=1), atol=1e-4, rtol=0)


def test_no_saturation_is_grey_and_so_is_grey() -> None:
    image = pictures()
    grey = changed(image, grey=1)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    torch.testing.assert_close(changed(image, saturation=0), grey, atol=1e-5, rtol=0)


def test_each_picture_has_its_own() -> None:
    image = pictures()
    result = changed(image, grey=[0, 1, 0], hue=[0.5, 0.0, 0.0])
    torch.testing.assert_close(result[0], changed(image, hue=0.5)[0])
    assert torch.equal(result[1, 0], result[1, 1])
    torch.testing.assert_close(result[2], image[2], atol=1e-4, rtol=0)


def test_values_stay_within_bounds() -> None:
    result = changed(pictures(50), saturation=1.8, hue=1.0)
    assert result.min() >= 0
    assert result.max() <= 1


@pytest.mark.parametrize("option", [{"hue": 0.1}, {"grey": 1.0}, {"saturation": (0.5, 0.6)}])
def test_grey_pictures_have_no_colours_to_change(option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="these pictures have 1 channel: pass --channels 3"):
        BatchAugment(**option)(torch.rand(2, 1, 8, 8))


def test_augmentation_draws_colours_per_picture() -> None:
    image = pictures(1).expand(40, 3, 10, 8)
    grey = BatchAugment(grey=0.5)(image)[0]
    lost = (grey[:, 0] == grey[:, 1]).flatten(1).all(dim=1)
    assert 10 < lost.sum() < 30
    assert torch.allclose(grey[~lost], image[~lost], atol=1e-5)
    turned = BatchAugment(hue=0.1, saturation=(0.8, 1.2))(image)[0]
    assert torch.pdist(turned.flatten(1)).min() > 0


def test_colours_go_on_from_a_saved_place() -> None:
    options: dict[str, Any] = {"hue": 0.1, "saturation": (0.8, 1.2), "grey": 0.2, "flip": 0.5, "solarise": 0.2}
    augment, image = BatchAugment(**options, seed=4), pictures()
    augment(image)
    saved = augment.state_dict()
    expected = augment(image)[0]
    resumed = BatchAugment(**options, seed=5)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed(image)[0], expected)


def test_flips_exchange_left_and_right_of_picture_and_label() -> None:
    image = pictures(20)
    label = (image[:, :1] * 8).to(torch.uint8)
    flipped, moved = BatchAugment(flip=1.0)(image, label)
    assert torch.allclose(flipped, image.flip(2), atol=1e-5)
    assert moved is not None
    assert torch.equal(moved, label.flip(2))
    some, _ = BatchAugment(flip=0.5)(image)
    kept = torch.isclose(some, image, atol=1e-5).flatten(1).all(dim=1)
    assert 4 < kept.sum() < 16
    assert torch.allclose(some[~kept], image[~kept].flip(2), atol=1e-5)
