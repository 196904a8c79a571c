from __future__ import annotations

import doctest
from math import exp, log
from statistics import median

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.losses import segmentation
from ufc_monai.losses.segmentation import PresentDiceCELoss, class_weights
from ufc_monai.transforms.labels import IGNORE

WEIGHTS = [0.2, 0.5, 2.0, 1.0]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def slow_loss(logits: Tensor, target: Tensor, weights: list[float]) -> float:
    """Pixel by pixel: weighted cross entropy, and 1 - 2 |A n B| / (|A| + |B|) of the classes that occur."""
    n_classes = logits.shape[1]
    overlap, predicted, true = [0.0] * n_classes, [0.0] * n_classes, [0.0] * n_classes
    entropy = total = 0.0
    pixels = logits.movedim(1, -1).reshape(-1, n_classes).tolist()
    for pixel, label in zip(pixels, target.flatten().tolist(), strict=True):
        shares = [exp(x) / sum(map(exp, pixel)) for x in pixel]
        entropy -= weights[label] * log(shares[label])
        total += weights[label]
        overlap[label] += shares[label]
        true[label] += 1
        predicted = [a + b for a, b in zip(predicted, shares, strict=True)]
    dice = [1 - 2 * overlap[c] / (predicted[c] + true[c]) for c in range(1, n_classes) if true[c]]
    return entropy / total + (sum(dice) / len(dice) if dice else 0)


@pytest.mark.parametrize("occurring", [1, 2, 3, 4])
def test_equals_the_loop(occurring: int) -> None:
    logits, target = draw(2, 4, 3, 5), labels(occurring, 2, 1, 3, 5)
    assert len(set(target.flatten().tolist())) == occurring
    loss = PresentDiceCELoss(WEIGHTS)(logits, target)
    assert loss.item() == pytest.approx(slow_loss(logits, target, WEIGHTS), abs=1e-5)  # MONAI smooths by 1e-5


def test_without_weights_all_classes_count_alike() -> None:
    logits, target = draw(2, 4, 3, 5), labels(4, 2, 1, 3, 5)
    torch.testing.assert_close(PresentDiceCELoss()(logits, target), PresentDiceCELoss([1.0] * 4)(logits, target))


def test_background_alone_leaves_the_cross_entropy() -> None:
    logits, target = draw(2, 4, 3, 5), torch.zeros(2, 1, 3, 5, dtype=torch.long)
    torch.testing.assert_close(PresentDiceCELoss(WEIGHTS)(logits, target), F.cross_entropy(logits, target[:, 0]))


def test_dice_is_taken_over_the_batch() -> None:
    logits, target = draw(2, 4, 3, 5), labels(4, 2, 1, 3, 5)
    side_by_side = PresentDiceCELoss()(torch.cat([*logits], -1)[None], torch.cat([*target], -1)[None])
    torch.testing.assert_close(PresentDiceCELoss()(logits, target), side_by_side)


@pytest.mark.parametrize("rare", [1, 2])
def test_a_right_answer_costs_nothing_and_a_missed_class_a_dice_of_one(rare: int) -> None:
    target = torch.zeros(1, 1, 4, 4, dtype=torch.long)
    target[..., 0, 0] = rare
    right = 50 * F.one_hot(target[:, 0], 3).movedim(-1, 1).double()
    missed = 50 * F.one_hot(torch.zeros_like(target[:, 0]), 3).movedim(-1, 1).double()
    loss = PresentDiceCELoss()
    assert loss(right, target).item() == pytest.approx(0, abs=1e-4)
    assert loss(missed, target).item() == pytest.approx(1 + 50 / 16, abs=1e-4)


def test_gradcheck() -> None:
    target = labels(3, 2, 1, 2, 3)
    assert torch.autograd.gradcheck(lambda x: PresentDiceCELoss(WEIGHTS)(x, target), draw(2, 4, 2, 3).requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    logits, target = draw(2, 4, 6, 6).to(dtype).requires_grad_(), labels(4, 2, 1, 6, 6)
    loss = PresentDiceCELoss(WEIGHTS)(logits, target)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == PresentDiceCELoss(WEIGHTS)(logits.float(), target).item()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_any_type_of_target(dtype: torch.dtype) -> None:
    logits, target = draw(2, 4, 3, 5), labels(4, 2, 1, 3, 5)
    loss = PresentDiceCELoss(WEIGHTS)
    torch.testing.assert_close(loss(logits, target.to(dtype)), loss(logits, target))
    assert float(loss(logits, MetaTensor(target.to(dtype)))) == pytest.approx(loss(logits, target).item())


def test_weights_move_with_the_loss_and_are_no_parameters() -> None:
    loss = PresentDiceCELoss(torch.tensor(WEIGHTS))
    assert "class_weights" in dict(loss.named_buffers())
    assert not list(loss.parameters())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(counts=st.lists(st.integers(0, 10**7), min_size=2, max_size=9), scale=st.sampled_from([1, 3, 1000]))
def test_class_weights_follow_the_formula(counts: list[int], scale: int) -> None:
    foreground = [n for n in counts[1:] if n]
    share = [n / max(sum(counts), 1) for n in counts]
    middle = median(share[1 + i] for i, n in enumerate(counts[1:]) if n) if foreground else 0
    expected = [min(max((middle / f) ** 0.5, 0.2), 4) if f and foreground else 1.0 for f in share]
    assert class_weights(scale * torch.tensor(counts)).tolist() == pytest.approx(expected, rel=1e-6)


def test_class_weights_of_abdominal_organs_are_near_those_that_worked() -> None:
    """Background .2, liver .5 or less, middling organs near 1, aorta and pancreas between 1 and 2."""
    background, spleen, kidney, liver, stomach, aorta, pancreas = class_weights(
        torch.tensor([60_000_000, 250_000, 150_000, 1_500_000, 400_000, 90_000, 75_000])
    ).tolist()
    assert background == pytest.approx(0.2)
    assert 0.2 < liver < 0.5 < stomach < spleen < 1 < kidney < aorta < pancreas < 2


def test_a_batch_of_nothing_but_a_class_never_seen_in_training_has_a_finite_loss() -> None:
    weights = class_weights(torch.tensor([1000, 50, 0]))
    loss = PresentDiceCELoss(weights)(draw(1, 3, 4, 4), torch.full((1, 1, 4, 4), 2))
    assert loss.isfinite()
    assert loss > 0


def test_docstring_examples() -> None:
    assert doctest.testmod(segmentation).failed == 0


@pytest.mark.parametrize("counts", [[100, 0, 0], [100, 10, 1]])
def test_class_weights_are_float32_with_and_without_foreground(counts: list[int]) -> None:
    assert class_weights(torch.tensor(counts)).dtype == torch.float32


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
@settings(deadline=None, max_examples=25)
def test_ignored_pixels_have_no_loss_and_no_gradient(seed: int, share: float) -> None:
    """Whatever is predicted there; and the rest is as if they had been cut out."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(4, (2, 1, 3, 5), generator=generator)
    target[torch.rand(target.shape, generator=generator) < share] = 255
    one, other = (torch.randn(2, 4, 3, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    judged = (target != 255).expand_as(one)
    one = one.requires_grad_()
    loss = PresentDiceCELoss(WEIGHTS)(one, target)
    changed = PresentDiceCELoss(WEIGHTS)(torch.where(judged, one, other), target)
    torch.testing.assert_close(loss, changed)
    loss.backward()
    assert one.grad is not None
    assert one.grad.isfinite().all()
    assert not one.grad[~judged].any()
    if judged.any():
        rest = one.detach().movedim(1, 0)[:, judged[:, 0]][None, :, None]
        cut_out = PresentDiceCELoss(WEIGHTS)(rest, target[judged[:, :1]][None, None, None])
        torch.testing.assert_close(loss.detach(), cut_out)
    else:
        assert loss.item() == 0


def test_the_loss_ignores_what_remapped_labels_ignore() -> None:
    assert PresentDiceCELoss().ignore_index == IGNORE
