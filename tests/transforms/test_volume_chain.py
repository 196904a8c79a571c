"""The one volume chain: what a server, the slice store and a restored mask rely on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import Compose, LoadImaged

from ufc_monai.data import MMWHS_LABELS, find_cases
from ufc_monai.transforms import RemapLabelsd, slice_chain, volume_chain

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
