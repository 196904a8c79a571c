"""What handlers may ask of any loss, and the batch of all ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.protocol import joint_batch, of_joint_batches


def test_a_loss_of_several_ranks_needs_negatives_from_the_batch() -> None:
    loss = ClusterContrastiveLoss("simclr")
    assert of_joint_batches(loss) is loss
    with pytest.raises(InputError, match="which MSELoss does not support"):
        of_joint_batches(nn.MSELoss())


def test_the_views_of_a_loss_are_the_halves_of_its_output() -> None:
    first, second = ClusterContrastiveLoss("simclr").views(torch.arange(6))
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [3, 4, 5])


def test_a_joint_batch_holds_first_the_first_views_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, groups = torch.tensor([[1.0], [2.0]]), torch.tensor([5, 6])
    assert joint_batch(embeddings, groups) == (embeddings, groups)

    def gathered(into: list[Tensor], own: Tensor) -> None:
        for rank, tensor in enumerate(into):
            tensor.copy_(own + 10 * rank)

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather", gathered)
    monkeypatch.setattr("ufc_monai.losses.protocol.all_gather", lambda own: (own, own + 10))
    joint, joint_groups = joint_batch(embeddings, groups)
    assert joint.flatten().tolist() == [1, 11, 2, 12]
    assert joint_groups.tolist() == [5, 15, 6, 16]
