from __future__ import annotations

import doctest
from math import exp, log, pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import varautoencoder
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ufc_monai.base.errors import InputError
from ufc_monai.losses import vae
from ufc_monai.losses.vae import BetaVAELoss, ContrastiveAutoEncoderLoss, kl_per_dimension, reconstruction_error

Output = tuple[Tensor, Tensor, Tensor, Tensor]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch() -> tuple[Output, Tensor]:
    mu, logvar = draw(3, 5, seed=1), draw(3, 5, seed=2)
    return (draw(3, 2, 4, 4, seed=3), mu, logvar, mu), draw(3, 2, 4, 4, seed=4)


def test_reconstruction_error_equals_the_loop() -> None:
    (reconstruction, *_), image = batch()
    pairs = zip(reconstruction.tolist(), image.tolist(), strict=True)
    flat = [zip(*(torch.tensor(x).flatten().tolist() for x in pair), strict=True) for pair in pairs]
    expected = sum(sum((a - b) ** 2 for a, b in image_pair) for image_pair in flat) / len(image)
    assert reconstruction_error(reconstruction, image).item() == pytest.approx(expected)


def test_reconstruction_error_is_a_sum_over_pixels_and_a_mean_over_images() -> None:
    (a, *_), b = batch()
    error = reconstruction_error(a, b)
    torch.testing.assert_close(reconstruction_error(a.repeat(1, 1, 2, 1), b.repeat(1, 1, 2, 1)), 2 * error)
    torch.testing.assert_close(reconstruction_error(a.repeat(1, 2, 1, 1), b.repeat(1, 2, 1, 1)), 2 * error)
    torch.testing.assert_close(reconstruction_error(a.repeat(2, 1, 1, 1), b.repeat(2, 1, 1, 1)), error)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a reconstruction of shape \(2, 3, 4, 4\), got \(2, 1, 4, 4\)"):
        reconstruction_error(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))


def test_kl_closed_forms() -> None:
    mu = torch.tensor([[0.0, 1.0, -2.0, 0.0]], dtype=torch.float64)
    logvar = torch.tensor([[0.0, 0.0, 0.0, 1.5]], dtype=torch.float64)
    expected = [0.0, 1 / 2, 4 / 2, (exp(1.5) - 1 - 1.5) / 2]
    assert kl_per_dimension(mu, logvar).tolist() == pytest.approx(expected)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(mu=st.floats(-5, 5), logvar=st.floats(-8, 8))
def test_kl_equals_torch_distributions(mu: float, logvar: float) -> None:
    means, logvars = torch.tensor([[mu, 0], [0, 0]]).double(), torch.tensor([[logvar, 0], [0, 0]]).double()
    posterior, prior = Normal(means, (logvars / 2).exp()), Normal(torch.zeros(()).double(), torch.ones(()).double())
    kl = kl_per_dimension(means, logvars)
    torch.testing.assert_close(kl, kl_divergence(posterior, prior).mean(0))
    assert (kl >= 0).all()


def test_kl_keeps_one_value_a_dimension() -> None:
    assert kl_per_dimension(draw(3, 7), draw(3, 7)).shape == (7,)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
def test_loss_is_minus_eq1(beta: float) -> None:
    (reconstruction, mu, logvar, z), image = batch()
    log_likelihood = Normal(reconstruction, 0.5**0.5).log_prob(image).sum() / 3  # type: ignore[no-untyped-call]
    kl = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(torch.zeros_like(mu), 1.0)).sum() / 3
    constant = log(pi) / 2 * image[0].numel()
    loss = BetaVAELoss(beta)((reconstruction, mu, logvar, z), image)
    torch.testing.assert_close(loss, -(log_likelihood - beta * kl) - constant)


def test_beta_may_change_between_steps() -> None:
    output, image = batch()
    loss = BetaVAELoss(beta=0.0)
    before = loss(output, image)
    loss.beta = 2.0
    torch.testing.assert_close(loss(output, image) - before, 2 * kl_per_dimension(output[1], output[2]).sum())


def test_beta_zero_is_an_auto_encoder_even_when_the_variance_overflows() -> None:
    (reconstruction, mu, *_), image = batch()
    logvar = torch.full_like(mu, 1e4).requires_grad_()
    reconstruction, mu = reconstruction.requires_grad_(), mu.requires_grad_()
    loss = BetaVAELoss(beta=0.0)((reconstruction, mu, logvar, mu), image)
    loss.backward()
    torch.testing.assert_close(loss, reconstruction_error(reconstruction, image))
    assert mu.grad is None
    assert logvar.grad is None
    assert reconstruction.grad is not None
    torch.testing.assert_close(reconstruction.grad, 2 * (reconstruction - image).detach() / 3)


def test_gradcheck() -> None:
    (reconstruction, mu, logvar, _), image = batch()
    inputs = tuple(x.requires_grad_() for x in (reconstruction, mu, logvar))
    assert torch.autograd.gradcheck(lambda r, m, v: BetaVAELoss(4.0)((r, m, v, m), image), inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    black, white = torch.zeros(1, 1, 300, 301, dtype=dtype), torch.ones(1, 1, 300, 301, dtype=dtype)
    assert reconstruction_error(black, white).item() == 300 * 301  # beyond float16
    narrow = torch.full((1, 1), 0.1, dtype=dtype)
    logvar = narrow.double().item()
    kl = kl_per_dimension(torch.zeros_like(narrow), narrow)
    assert kl.item() == pytest.approx((exp(logvar) - 1 - logvar) / 2, rel=1e-4)


def test_takes_the_output_of_monais_network() -> None:
    torch.manual_seed(0)
    network = varautoencoder.VarAutoEncoder(2, (1, 8, 8), 1, 3, channels=(4,), strides=(2,))
    image = torch.rand(2, 1, 8, 8)
    loss = BetaVAELoss()(network(image), image)
    loss.backward()
    assert loss.item() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_negative_beta() -> None:
    with pytest.raises(InputError, match=r"beta must be 0 or more, got -1\.0"):
        BetaVAELoss(beta=-1.0)


def test_docstring_examples() -> None:
    assert doctest.testmod(vae).failed == 0


def nt_xent(projections: list[list[float]], temperature: float) -> float:
    """Loop over all rows; i and i + b are the two views of an image."""
    unit = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in projections]
    n, total = len(unit), 0.0
    for i in range(n):
        powers = [exp(sum(a * b for a, b in zip(unit[i], row, strict=True)) / temperature) for row in unit]
        total -= log(powers[(i + n // 2) % n] / (sum(powers) - powers[i]))
    return total / n


@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_the_contrastive_auto_encoder_s_loss_equals_the_loop(beta: float) -> None:
    image, reconstruction, mu, logvar = (draw(6, 2, 4, 4, seed=1), draw(6, 2, 4, 4, seed=2), *draw(2, 6, 5, seed=3))
    projections, pixels = draw(6, 3, seed=4), 2 * 4 * 4
    loss = ContrastiveAutoEncoderLoss(beta=beta, temperature=0.4, weight=0.3)
    found = loss((reconstruction, mu, logvar, mu, projections), image)
    contrast = nt_xent(projections.tolist(), 0.4)
    errors = sum(
        float((reconstruction[view] - image[view]).square().mean())
        + beta * float(kl_per_dimension(mu[view], logvar[view]).sum()) / pixels
        for view in (slice(3), slice(3, 6))
    )
    assert found.item() == pytest.approx(contrast + 0.3 * errors)
    assert loss.figures["contrast"].item() == pytest.approx(contrast)
    assert loss.figures["contrast_chance"].item() == pytest.approx(log(5))


def test_of_views_at_right_angles_the_contrast_has_a_closed_form() -> None:
    image, zeros = torch.zeros(4, 1, 2, 2), torch.zeros(4, 2)
    loss = ContrastiveAutoEncoderLoss(temperature=1.0)((image, zeros, zeros, zeros, torch.eye(2).repeat(2, 1)), image)
    assert loss.item() == pytest.approx(log(1 + 2 / exp(1)))
