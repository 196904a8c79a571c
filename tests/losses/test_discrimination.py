"""Each term of local discrimination beside a loop, in closed form, and by its gradient; and the two steps."""

from __future__ import annotations

from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.losses.cells import cell_means, matched
from ufc_monai.losses.discrimination import (
    LocalDiscriminationLoss,
    binary_entropy,
    in_use,
    memberships_of,
    region_losses,
    region_vectors,
    spreading_losses,
)

STILL = torch.eye(2, 3, dtype=torch.float64).repeat(8, 1, 1)
SHIFTED = torch.tensor([[1, 0, 0.5], [0, 1, 0]], dtype=torch.float64).repeat(4, 1, 1)
"""The second views show a quarter less."""


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(draw(*shape, seed=seed), dim=-1)


def output(b: int, side: int = 8, k: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a network might say of b slices."""
    shares = torch.linspace(0.2, 0.8, b // 2, dtype=torch.float64)
    return draw(2 * b, 4, side, side), draw(2 * b, k, side, side, seed=1), draw(b // 2, 4, side, side, seed=2), shares


def others(n: int) -> tuple[Tensor, Tensor]:
    """The other view of each of n patches, and which keys each meets."""
    index = torch.arange(n)
    return (index + n // 2) % n, index[:, None] != index


def slow_spreading(f: list[Tensor], keys: list[Tensor], own: list[int], meets: list[list[int]], tau: float) -> Tensor:
    """Ye et al. 2019, anchor by anchor and key by key."""
    losses = []
    for a, anchor in enumerate(f):
        e = {j: (anchor @ keys[j] / tau).exp() for j in meets[a]}
        p = {j: value / sum(e.values()) for j, value in e.items()}
        losses.append(-p[own[a]].log() - sum((1 - p[j]).log() for j in meets[a] if j != own[a]))
    return torch.stack(losses)


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_spreading_equals_its_formula(tau: float) -> None:
    f, keys = unit(6, 3), unit(6, 3, seed=1)
    own, allowed = others(6)
    meets = [[j for j in range(6) if j != a] for a in range(6)]
    losses, _ = spreading_losses(f, keys, own, allowed, tau)
    torch.testing.assert_close(losses, slow_spreading([*f], [*keys], own.tolist(), meets, tau))


def test_spreading_in_closed_form() -> None:
    """All alike: each of n keys has 1 / n. Pairs at right angles: e / (e + n - 2) and 1 / (e + n - 2)."""
    own, allowed = others(6)
    losses, level = spreading_losses(torch.ones(6, 1), torch.ones(6, 1), own, allowed, 0.5)
    torch.testing.assert_close(losses, torch.full((6,), log(5) - 4 * log(4 / 5)))
    torch.testing.assert_close(level, losses)
    pairs = torch.eye(3).repeat(2, 1)
    losses, _ = spreading_losses(pairs, pairs, own, allowed, 1.0)
    e = torch.e
    expected = -log(e / (e + 4)) - 4 * log(1 - 1 / (e + 4))
    torch.testing.assert_close(losses, torch.full((6,), expected))


@pytest.mark.parametrize("scale", [1.0, 40.0])
def test_spreading_is_finite_where_a_wrong_key_is_sure(scale: float) -> None:
    f = (scale * torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])).requires_grad_()
    losses, _ = spreading_losses(f, f.detach(), *others(4), 0.1)
    torch.autograd.backward(losses.sum())
    assert losses.isfinite().all()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_spreading_gradcheck() -> None:
    own, allowed = others(4)
    keys, wrong = unit(4, 3, seed=1), allowed.clone()
    wrong[:, 2] = False  # and an anchor whose own key is not allowed
    for meets in (allowed, wrong):
        assert torch.autograd.gradcheck(
            lambda f, m=meets: spreading_losses(f, keys, own, m, 0.5)[0], unit(4, 3).requires_grad_()
        )


def test_regions_equal_their_formula() -> None:
    pixels, scores = F.normalize(draw(3, 4, 5, 5), dim=1), draw(3, 2, 5, 5, seed=1)
    a = memberships_of(scores)
    slow = torch.zeros(3, 2, 4, dtype=torch.float64)
    for n in range(3):
        for k in range(2):
            for i in range(5):
                for j in range(5):
                    maps = [1 / (1 + (-scores[n, c, i, j]).exp()) for c in range(2)]
                    slow[n, k] += maps[k] / (maps[0] + maps[1]) * pixels[n, :, i, j] / 25
    slow = slow / slow.norm(dim=2, keepdim=True)
    torch.testing.assert_close(region_vectors(pixels, a), slow)
    t = [F.normalize(sum(slow[n, k] for n in range(3)), dim=0) for k in range(2)]
    losses = torch.zeros(3, 2, dtype=torch.float64)
    for n in range(3):
        for k in range(2):
            e = [(slow[n, k] @ t[c] / 0.2).exp() for c in range(2)]
            losses[n, k] = -(e[k] / (e[0] + e[1])).log()
    torch.testing.assert_close(region_losses(slow, 0.2), losses)


def test_regions_in_closed_form() -> None:
    """All alike: log K. At right angles: -log(e / (e + K - 1))."""
    torch.testing.assert_close(region_losses(torch.ones(2, 4, 1), 0.2), torch.full((2, 4), log(4)))
    apart = region_losses(torch.eye(4).repeat(2, 1, 1), 1.0)
    torch.testing.assert_close(apart, torch.full((2, 4), -log(torch.e / (torch.e + 3))))


def test_memberships_and_their_entropy_in_closed_form() -> None:
    a = memberships_of(torch.tensor([0.0, 0, 0, 0]).view(1, 4, 1, 1))
    torch.testing.assert_close(a.flatten(), torch.full((4,), 0.25))
    sure = memberships_of(torch.tensor([50.0, -50, -50, -200]).view(1, 4, 1, 1))
    torch.testing.assert_close(sure.sum(), torch.tensor(1.0))
    expected = -0.25 * log(0.25, 2) - 0.75 * log(0.75, 2)
    values = torch.tensor([0.0, 0.5, 1.0, 0.25])
    torch.testing.assert_close(binary_entropy(values), torch.tensor([0, 1, 0, expected]), atol=1e-5, rtol=1e-5)
    nothing = memberships_of(torch.full((1, 3, 2, 2), -1000.0))
    assert nothing.isfinite().all()


def test_entropy_has_a_slope_where_a_share_is_0_or_1() -> None:
    shares = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    binary_entropy(shares).sum().backward()  # type: ignore[no-untyped-call]
    assert shares.grad is not None
    assert shares.grad.isfinite().all()


def test_regions_and_entropy_gradcheck() -> None:
    pixels, scores = F.normalize(draw(2, 3, 3, 3), dim=1).requires_grad_(), draw(2, 3, 3, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, s: region_losses(region_vectors(x, memberships_of(s)), 0.5), (pixels, scores)
    )
    assert torch.autograd.gradcheck(lambda s: binary_entropy(memberships_of(s)), scores)


def test_the_patches_of_two_views_that_both_show() -> None:
    out, loss = output(b=2), LocalDiscriminationLoss(patch_steps=5, grid=4, temperature=0.3)
    loss(out, SHIFTED)
    first, second, seen = matched(F.normalize(out[0], dim=1), SHIFTED)
    (one, known), (two, _) = cell_means(first, seen, 4), cell_means(second, seen, 4)
    rows = torch.cat([one[known], two[known]])
    own, allowed = others(len(rows))
    assert known.float().mean() == 0.75
    assert float(loss.figures["dropped_anchors"]) == pytest.approx(0.25)
    torch.testing.assert_close(loss.figures["patch_loss"], spreading_losses(rows, rows, own, allowed, 0.3)[0].mean())
    assert loss.views(out)[0].shape == (32, 4)


def test_mixed_patches_are_the_mixture_of_what_they_are_made_of() -> None:
    out, loss = output(b=4), LocalDiscriminationLoss(patch_steps=5, grid=2, temperature=0.3)
    loss(out, STILL)
    pixels, mixed = F.normalize(out[0], dim=1), F.normalize(out[2], dim=1)
    anchors, targets = [], []
    for i, share in enumerate(out[3]):
        for y in (slice(0, 4), slice(4, 8)):
            for x in (slice(0, 4), slice(4, 8)):
                patch = [F.normalize(m[:, y, x].mean(dim=(1, 2)), dim=0) for m in (mixed[i], pixels[i], pixels[i + 2])]
                anchors.append(patch[0])
                targets.append(F.normalize(share * patch[1] + (1 - share) * patch[2], dim=0))
    n = len(anchors)
    meets = [[j for j in range(2 * n) if j != a] for a in range(n)]
    slow = slow_spreading(anchors, [*anchors, *targets], [a + n for a in range(n)], meets, 0.3)
    torch.testing.assert_close(loss.figures["mixed_loss"], slow.mean())


def test_the_second_step_adds_the_regions_by_their_weights() -> None:
    out, loss = output(b=2), LocalDiscriminationLoss(patch_steps=1, grid=4, region_weight=7, entropy_weight=0.3)
    values, steps = [], []
    for _ in range(2):
        values.append(loss(out, STILL))
        steps.append(float(loss.figures["step"]))
    figures = loss.figures
    assert steps == [1, 2]
    torch.testing.assert_close(values[0], figures["patch_loss"] + figures["mixed_loss"])
    torch.testing.assert_close(values[1], values[0] + 7 * figures["region_loss"] + 0.3 * figures["region_entropy"])
    resumed = LocalDiscriminationLoss(patch_steps=1, grid=4, region_weight=7, entropy_weight=0.3)
    resumed.load_state_dict(loss.state_dict())
    torch.testing.assert_close(resumed(out, STILL), values[1])


def test_the_chance_level_is_the_loss_of_embeddings_that_coincide() -> None:
    out, loss = output(b=4), LocalDiscriminationLoss(patch_steps=0)
    value = loss((torch.ones_like(out[0]), out[1], torch.ones_like(out[2]), out[3]), SHIFTED)
    torch.testing.assert_close(value, loss.figures["chance"])


def test_no_step_is_taken_on_views_that_show_nothing_together_and_one_slice_is_not_mixed() -> None:
    apart = torch.tensor([[1, 0, 5.0], [0, 1, 0]], dtype=torch.float64)[None]
    out = output(b=1)
    embeddings, loss = out[0].requires_grad_(), LocalDiscriminationLoss(patch_steps=5)
    value = loss(out, apart)
    value.backward()
    assert (float(value.detach()), float(loss.figures["dropped_anchors"])) == (0, 1)
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert float(loss(out, STILL).detach()) > 0


def test_regions_in_use() -> None:
    a = torch.zeros(1, 4, 2, 2)
    a[0, 0, 0], a[0, 1, 1] = 0.9, 0.8
    used = in_use(a)
    assert used["region_shares"].tolist() == [0.5, 0.5, 0, 0]
    assert float(used["effective_regions"]) == pytest.approx(2)
