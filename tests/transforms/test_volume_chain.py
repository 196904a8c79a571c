"""The one volume chain: what a server, the slice store and a restored mask rely on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged
from torch import Tensor

from ufc_monai.data.case import MMWHS_LABELS
from ufc_monai.data.datalist import find_cases
from ufc_monai.transforms.chain import Standardise, Standardised, slice_chain, volume_chain
from ufc_monai.transforms.labels import RemapLabelsd

REMAP = RemapLabelsd("label", MMWHS_LABELS, background_labels=[421])
PREPROCESSING: dict[str, Any] = {"image_size": 24, "window": [-250, 650], "region": None, "standardise": False}
STANDARDISED = {**PREPROCESSING, "standardise": True}


@pytest.fixture(scope="module")
def item(phantom: Path) -> dict[str, Any]:
    return find_cases(phantom)[0].item(phantom)


@pytest.mark.parametrize("remap", [None, REMAP])
@pytest.mark.parametrize("root", [None, "data"])
def test_a_flat_list_that_begins_with_the_loader(remap: RemapLabelsd | None, root: str | None) -> None:
    """MONAI Label looks for the loader among the items; RestoreGridd and the store walk over them."""
    chain = slice_chain(STANDARDISED, 1, root, remap) if root else volume_chain(STANDARDISED, 1, remap)
    assert isinstance(chain[0], LoadImaged)
    assert len(Compose(chain).flatten().transforms) == len(chain)


def test_volumes_and_labels_lie_on_one_grid_or_the_label_stays(item: dict[str, Any]) -> None:
    moved = Compose(volume_chain(PREPROCESSING, remap=REMAP))(item)
    left = Compose(volume_chain(PREPROCESSING, remap=REMAP, labels_as_stored=True))(item)
    stored = Compose(volume_chain(PREPROCESSING, remap=REMAP)[:1])(item)
    assert torch.equal(moved["image"], left["image"])
    assert moved["image"].shape == moved["label"].shape == (1, 24, 24, stored["image"].shape[-1])
    assert left["label"].shape == stored["label"].shape
    assert moved["image"].min() >= 0
    assert moved["image"].max() <= 1


def test_a_slice_is_the_volume_in_half_precision(item: dict[str, Any]) -> None:
    """Training, feature extraction and painting see the same numbers."""
    volume = Compose(volume_chain(STANDARDISED, remap=REMAP, compact=True))(item)
    assert (volume["image"].dtype, volume["label"].dtype) == (torch.float16, torch.uint8)
    plain, standard = (
        Compose(slice_chain(STANDARDISED, 1, "", REMAP, standardise=standardise))(item)[3]["image"]
        for standardise in (False, True)
    )
    assert torch.equal(plain, volume["image"][..., 3].as_tensor().float())
    assert abs(float(standard.mean())) < 1e-5
    assert float(standard.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_whole_volumes_are_standardised_slice_by_slice(item: dict[str, Any]) -> None:
    image = Compose(volume_chain(STANDARDISED))(item)["image"]
    torch.testing.assert_close(image.mean(dim=(1, 2)).as_tensor(), torch.zeros(1, image.shape[-1]), atol=1e-5, rtol=0)


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
