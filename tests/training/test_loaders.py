from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.protocol import CombinedLoss
from ufc_monai.training.loaders import CombinedLoader, PrepareBatch, PrepareCombinedBatch


def loader(n: int, batch_size: int, seed: int | None = None) -> DataLoader[int]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(Dataset(list(range(n))), batch_size, shuffle=seed is not None, generator=generator)


@given(first=st.integers(1, 9), second=st.integers(1, 9), batch_size=st.integers(1, 3))
def test_an_epoch_is_that_of_the_first_and_the_others_begin_anew(first: int, second: int, batch_size: int) -> None:
    combined = CombinedLoader({"a": loader(first, batch_size), "b": loader(second, 1)})
    batches = list(combined)
    assert len(batches) == len(combined) == -(-first // batch_size)
    assert torch.cat([batch["a"] for batch in batches]).tolist() == list(range(first))
    assert [batch["b"].item() for batch in batches] == [i % second for i in range(len(batches))]
    assert [batch["b"].item() for batch in combined] == [batch["b"].item() for batch in batches]


def test_over_epochs_a_longer_loader_shows_all_of_its_slices() -> None:
    combined = CombinedLoader({"a": loader(2, 1), "b": loader(12, 3, seed=0)})
    assert {i for _ in range(20) for batch in combined for i in batch["b"].tolist()} == set(range(12))


def test_a_loader_without_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match="the loader b has no batch: it needs more volumes or a smaller batch_size"):
        CombinedLoader({"a": loader(2, 1), "b": DataLoader(Dataset([1, 2]), batch_size=3, drop_last=True)})


class Mean(nn.Module):
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target.flatten(1)).mean()


def test_each_loss_sees_its_own_part_and_is_logged_by_name() -> None:
    batch = {"a": {"image": torch.ones(2, 4), "label": torch.zeros(2, 4)}, "b": {"image": torch.full((3, 4), 5.0)}}
    prepare = PrepareCombinedBatch({"a": PrepareBatch(), "b": PrepareBatch(target_key="image")})
    images, targets = prepare(batch, "cpu")
    assert images.shape == (5, 4)
    loss = CombinedLoss({"a": Mean(), "b": Mean()}, {"b": 0.5})
    total = loss(images + torch.tensor([0, 0, 1, 2, 3.0])[:, None], targets)
    assert {name: value.item() for name, value in loss.figures.items()} == {"a": 1, "b": 2}
    assert total.item() == 1 + 0.5 * 2
    with pytest.raises(InputError, match="weights: unknown term c; the terms are a, b"):
        CombinedLoss({"a": Mean(), "b": Mean()}, {"c": 1})


def test_figures_of_a_term_are_logged_behind_its_name() -> None:
    loss = CombinedLoss({"dense": Mean(), "global": ClusterContrastiveLoss("simclr")})
    loss(torch.eye(8), {"dense": torch.zeros(4, 8), "global": torch.tensor([0, 1, 0, 1])})
    assert set(loss.figures) == {"dense", "global", "global_chance", "global_negatives", "global_dropped_anchors"}
