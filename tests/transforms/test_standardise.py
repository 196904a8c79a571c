"""Mean 0 and variance 1, whatever stands around a slice: nothing, a batch, a volume."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from ufc_monai.transforms.standardise import Standardise, Standardised


@pytest.fixture
def batch() -> Tensor:
    """Four pictures that differ in light and contrast."""
    generator = torch.Generator().manual_seed(0)
    light = torch.tensor([0.1, 0.3, 0.5, 0.7]).view(4, 1, 1, 1)
    return torch.rand(4, 3, 12, 10, generator=generator) * 0.3 + light


def test_every_channel_of_every_picture_by_itself(batch: Tensor) -> None:
    before, result = batch.clone(), Standardise()(batch)
    assert torch.equal(batch, before)
    for picture, standard in zip(batch.numpy(), result.numpy(), strict=True):
        for channel, expected in zip(picture, standard, strict=True):
            np.testing.assert_allclose((channel - channel.mean()) / channel.std(), expected, atol=1e-5)


def test_slice_batch_and_volume_are_treated_alike(batch: Tensor) -> None:
    expected = Standardise()(batch)
    assert torch.equal(torch.stack([Standardise()(picture) for picture in batch]), expected)
    volume = batch.movedim(0, -1)
    assert torch.allclose(Standardise(axes=(1, 2))(volume).movedim(-1, 0), expected, atol=1e-5)
    assert torch.allclose(Standardise(axes=(1, 2))(batch[0]), expected[0], atol=1e-6)


def test_light_and_contrast_are_gone(batch: Tensor) -> None:
    assert torch.allclose(Standardise()(0.4 * batch + 0.2), Standardise()(batch), atol=1e-4)


def test_what_is_flat_is_not_blown_up() -> None:
    flat = torch.full((1, 8, 8), 0.3)
    flat[0, 0, 0] += 1e-6
    assert Standardise()(flat).abs().max() < 1e-3


def test_statistics_lead_back(batch: Tensor) -> None:
    mean, deviation = Standardise().statistics(batch)
    assert torch.allclose(Standardise()(batch) * deviation + mean, batch, atol=1e-6)


def test_twin_keeps_the_meta_data_and_travels_to_workers(batch: Tensor) -> None:
    image = MetaTensor(batch[0], meta={"filename_or_obj": "a.png"})
    twin = pickle.loads(pickle.dumps(Standardised("image")))
    item = twin({"image": image, "label": 1})
    assert item["image"].meta["filename_or_obj"] == "a.png"
    assert torch.equal(item["image"].as_tensor(), Standardise()(batch[0]))
    assert item["label"] == 1
    with pytest.raises(KeyError):
        twin({"label": 1})
    assert Standardised("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}
