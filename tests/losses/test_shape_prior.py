"""The terms of the shape prior beside a loop, in closed form, and by their gradients; and when they count."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from test_discrimination import STILL, draw, output
from torch import Tensor, nn

from ufc_monai.losses.discrimination import LocalDiscriminationLoss, memberships_of
from ufc_monai.losses.shape import ShapePriorLoss, adversarial_losses


class Linear(nn.Module):
    """A discriminator whose logit is a weighted sum of the pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(draw(pixels, seed=3))

    def forward(self, masks: Tensor) -> Tensor:
        """(b, 1, H, W) to (b,)."""
        return masks.flatten(1) @ self.weight


def masks(b: int, side: int = 8) -> Tensor:
    return (draw(b, 1, side, side, seed=5) > 0).double()


def test_the_terms_equal_their_formula() -> None:
    judge, maps, true = Linear(4), torch.rand(3, 1, 2, 2, dtype=torch.float64), masks(2, 2)
    made = [sum(w * p for w, p in zip(judge.weight.tolist(), m.flatten().tolist(), strict=True)) for m in maps]
    real = [sum(w * p for w, p in zip(judge.weight.tolist(), m.flatten().tolist(), strict=True)) for m in true]
    passed = sum(-log(1 / (1 + exp(-x))) for x in made) / 3
    told = (sum(-log(1 - 1 / (1 + exp(-x))) for x in made) / 3 + sum(-log(1 / (1 + exp(-x))) for x in real) / 2) / 2
    found = adversarial_losses(judge, maps, true)
    assert [float(value.detach()) for value in found] == pytest.approx([passed, told])


def test_who_cannot_tell_loses_log_2() -> None:
    judge = Linear(4)
    nn.init.zeros_(judge.weight)
    assert [float(v.detach()) for v in adversarial_losses(judge, masks(2, 2), masks(2, 2))] == pytest.approx(
        [log(2)] * 2
    )


def test_each_term_teaches_one_of_the_two() -> None:
    judge, maps = Linear(4), torch.rand(3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    terms = adversarial_losses(judge, maps, masks(2, 2))
    found = [torch.autograd.grad(term, [maps, judge.weight], allow_unused=True) for term in terms]
    assert [[gradient is None for gradient in gradients] for gradients in found] == [[False, True], [True, False]]
    assert all(found[n][n].abs().sum() > 0 for n in (0, 1))


def test_gradcheck() -> None:
    judge, scores, maps = Linear(4), draw(2, 3, 2, 2).requires_grad_(), masks(2, 2) / 2
    assert torch.autograd.gradcheck(
        lambda s: adversarial_losses(judge, memberships_of(s)[:, :1], masks(2, 2))[0], scores
    )
    # gradcheck changes the weight in place
    assert torch.autograd.gradcheck(lambda _: adversarial_losses(judge, maps, masks(2, 2))[1], judge.weight)


def test_the_second_step_adds_both_terms_and_their_chance_level() -> None:
    out, judge = output(b=2), Linear(64)
    loss = ShapePriorLoss(LocalDiscriminationLoss(patch_steps=1, grid=4), judge, weight=3)
    alone = LocalDiscriminationLoss(patch_steps=1, grid=4)
    for step in (1, 2):
        value, local = loss(out, (STILL, masks(2))), alone(out, STILL)
        figures, expected, chance = loss.figures, local, alone.figures["chance"]
        if step == 2:
            expected = local + 3 * figures["shape_loss"] + figures["discriminator_loss"]
            chance = chance + 4 * log(2)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(figures["chance"], chance)
    first = memberships_of(out[1])[:2, :1]
    torch.testing.assert_close(figures["shape_loss"], adversarial_losses(judge, first, masks(2))[0].detach())
    assert loss.views(out)[0].shape == alone.views(out)[0].shape


def test_a_checkpoint_holds_steps_and_discriminator() -> None:
    out, target = output(b=2), (STILL, masks(2))
    judges = [Linear(64), Linear(64)]
    loss, other = (ShapePriorLoss(LocalDiscriminationLoss(patch_steps=1, grid=4), judge) for judge in judges)
    nn.init.ones_(judges[0].weight)
    loss(out, target)
    other.load_state_dict(loss.state_dict())
    torch.testing.assert_close(other(out, target), loss(out, target))
