from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import PRESETS
from ufc_monai.losses.momentum import BootstrapLoss, QueueContrastiveLoss, queue_size

WITH_QUEUE = [name for name in PRESETS if name != "ufc_printed"]


def unit(n: int, seed: int = 0, size: int = 5) -> Tensor:
    return F.normalize(torch.randn(n, size, generator=torch.Generator().manual_seed(seed)), dim=1)


def queue_loss(preset: str = "simclr", size: int = 8, **options: float) -> QueueContrastiveLoss:
    return QueueContrastiveLoss(preset, 0.2, size=size, embedding_size=5, **options)


def test_a_queue_holds_one_key_or_more() -> None:
    assert queue_loss(size=1).keys.shape == (1, 5)
    with pytest.raises(InputError, match="queue_size must be 1 or more, got 0"):
        queue_loss(size=0)


def slow_moco(queries: Tensor, keys: Tensor, old: Tensor, may_repel: Tensor) -> Tensor:
    """InfoNCE of He et al. 2020, Eq. 1, anchor by anchor."""
    losses = []
    for i, query in enumerate(queries):
        positive = (query @ keys[i] / 0.2).exp()
        negatives = [(query @ k / 0.2).exp() for j, k in enumerate(old) if may_repel[i, j]]
        losses.append(-(positive / (positive + sum(negatives))).log())
    return torch.stack(losses).mean()


def test_the_first_batch_has_no_negatives() -> None:
    queries = unit(4).requires_grad_()
    loss = queue_loss()(((queries), unit(4, 1)), (torch.zeros(4), torch.arange(4)))
    assert loss.item() == 0
    loss.backward()
    assert queries.grad is not None


def test_moco_equals_its_formula_and_spares_old_keys_of_the_same_slice() -> None:
    loss, groups = queue_loss(), torch.full((4,), -1)
    old = unit(4, 1)
    loss((unit(4, 2), old), (groups, torch.tensor([10, 11, 12, 13])))
    queries, keys, slices = unit(4, 3), unit(4, 4), torch.tensor([20, 11, 21, 13])
    may_repel = slices[:, None] != torch.tensor([10, 11, 12, 13])
    torch.testing.assert_close(loss((queries, keys), (groups, slices)), slow_moco(queries, keys, old, may_repel))


def test_clusters_of_old_keys_are_remembered() -> None:
    """UFC against a queue: old mates are positives, never negatives."""
    loss = queue_loss("ufc")
    old = unit(4, 1)
    loss((unit(4, 2), old), (torch.tensor([0, 0, 1, 2]), torch.arange(4)))
    query, key = unit(1, 3), unit(1, 4)
    s = torch.cat([key, old]) @ query[0] / 0.2
    expected = (torch.logsumexp(s[[3, 4]], 0) - torch.logsumexp(s[[0, 1, 2]], 0)) / 3
    torch.testing.assert_close(loss((query, key), (torch.tensor([0]), torch.tensor([9]))), expected)


@pytest.mark.parametrize("preset", WITH_QUEUE)
def test_chance_is_the_loss_of_a_collapse(preset: str) -> None:
    loss, one = queue_loss(preset), unit(1).expand(4, -1)
    loss((one, one), (torch.tensor([0, 0, 1, 2]), torch.arange(4)))
    collapsed = loss((one, one), (torch.tensor([0, 1, 1, 2]), torch.arange(4, 8)))
    assert loss.figures["chance"].item() == pytest.approx(collapsed.item(), abs=1e-6)
    if preset == "simclr":
        assert collapsed.item() == pytest.approx(log(1 + 4))


def test_the_oldest_keys_make_room() -> None:
    loss = queue_loss(size=4)
    batches = [unit(2, seed) for seed in range(3)]
    for i, keys in enumerate(batches):
        loss((unit(2, 9), keys), (torch.zeros(2), torch.tensor([2 * i, 2 * i + 1])))
    torch.testing.assert_close(loss.keys, torch.cat([batches[2], batches[1]]))
    assert loss.slices.tolist() == [4, 5, 2, 3]


def test_the_queue_is_in_the_state() -> None:
    one, two = queue_loss("ufc"), queue_loss("ufc")
    batch = (unit(4), unit(4, 1)), (torch.tensor([0, 0, 1, 2]), torch.arange(4))
    one(*batch)
    two.load_state_dict(one.state_dict())
    later = (unit(4, 2), unit(4, 3)), (torch.tensor([0, 0, 1, 2]), torch.arange(4, 8))
    assert torch.equal(one(*later), two(*later))


def test_no_gradient_reaches_the_keys_of_the_queue() -> None:
    loss = queue_loss()
    groups = torch.zeros(4)
    for step in range(2):
        queries = unit(4, step).requires_grad_()
        loss((queries, unit(4, 5 + step)), (groups, 4 * step + torch.arange(4))).backward()
        assert queries.grad is not None
    assert not loss.keys.requires_grad


def test_the_anchor_is_no_key() -> None:
    with pytest.raises(InputError, match="ufc_printed counts the anchor"):
        queue_loss("ufc_printed")


@pytest.mark.parametrize(("n", "batch", "size"), [(1000, 48, 480), (45141, 55, 4070), (97, 48, 48)])
def test_the_queue_holds_half_of_the_slices_at_most(n: int, batch: int, size: int) -> None:
    assert queue_size(n, batch) == size
    assert size <= n / 2
    assert size % batch == 0


def test_too_few_slices_for_a_queue() -> None:
    with pytest.raises(InputError, match="less than a batch of 48: lower batch_size"):
        queue_size(95, 48)


def test_byol_in_closed_form() -> None:
    loss, a = BootstrapLoss(), torch.eye(4)
    assert loss((a, 3 * a)) == 0
    assert loss((a, -a)) == 4
    assert loss((a, a.roll(1, 0))) == 2
    assert BootstrapLoss()((unit(4), unit(4, 1))).item() == pytest.approx(
        (unit(4) - unit(4, 1)).square().sum(1).mean().item(), rel=1e-5
    )


def test_byol_pulls_predictions_only() -> None:
    prediction, target = unit(4).requires_grad_(), unit(4, 1).requires_grad_()
    BootstrapLoss()((prediction, target)).backward()
    assert prediction.grad is not None
    assert target.grad is None
