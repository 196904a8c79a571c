"""What handlers may ask of any loss, the sum of several, and the batch of all ranks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.protocol import CombinedLoss, joint_batch, of_joint_batches


class Difference(nn.Module):
    """The mean difference of output and target."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: dict[str, Tensor] = {}

    def forward(self, output: Tensor, target: Tensor | tuple[Tensor, ...]) -> Tensor:
        first = target[0] if isinstance(target, tuple) else target
        self.figures = {"rows": torch.tensor(float(len(output)))}
        return (output - first).mean()


def test_a_combined_loss_is_the_weighted_sum_of_its_terms() -> None:
    loss = CombinedLoss({"one": Difference(), "two": Difference()}, {"two": 10.0})
    output = torch.tensor([1.0, 1.0, 5.0]).requires_grad_()
    targets = {"one": torch.zeros(2), "two": (torch.tensor([2.0]), torch.zeros(1))}
    total = loss(output, targets)
    assert total.item() == 1 + 10 * 3
    assert {name: value.item() for name, value in loss.figures.items()} == {
        **{"one": 1, "two": 3},
        **{"one_rows": 2, "two_rows": 1},
    }
    assert not loss.figures["one"].requires_grad
    total.backward()
    assert output.grad is not None
    assert output.grad.tolist() == [0.5, 0.5, 10]


def test_a_weight_of_no_term_is_refused() -> None:
    with pytest.raises(InputError, match="weights: unknown term three; the terms are one, two"):
        CombinedLoss({"one": Difference(), "two": Difference()}, {"three": 1.0})


def test_a_loss_of_several_ranks_needs_negatives_from_the_batch() -> None:
    loss = ClusterContrastiveLoss("simclr")
    assert of_joint_batches(loss) is loss
    with pytest.raises(InputError, match="which Difference does not support"):
        of_joint_batches(Difference())


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
