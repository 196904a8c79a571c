"""The objective of the (beta-)VAE, Eq. 1 of the paper with its sign turned: a loss to be made small."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss


class BetaVAELoss(nn.Module):
    """Reconstruction error + beta * KL(q(z|x) || N(0, I)), the negative of Eq. 1.

    Both terms are sums, over pixels and over latent dimensions, and means over the batch. A mean over pixels beside a
    summed KL would make beta some thousand times larger and the posterior collapse. beta 0 is the plain auto-encoder, 1
    the VAE, above 1 the beta-VAE.

    Args:
        beta: weight of the KL, 0 or more. May be changed between steps, for a warm-up.

    Raises:
        InputError: at a negative beta.

    Example:
        >>> image, mu = torch.zeros(2, 1, 4, 4), torch.ones(2, 3)
        >>> loss = BetaVAELoss(beta=2.0)
        >>> float(loss((image, mu, torch.zeros(2, 3), mu), image))  # KL of 1/2 nat in each of 3 dimensions
        3.0
    """

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        if beta < 0:
            raise InputError(f"beta must be 0 or more, got {beta}.")
        self.beta = beta

    def forward(self, output: tuple[Tensor, Tensor, Tensor, Tensor], image: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            output: what MONAI's ``VarAutoEncoder`` returns: reconstruction (B, C, H, W), mu and logvar (B, latent), z.
            image: (B, C, H, W).

        Returns:
            A scalar, computed in float32 at least.
        """
        reconstruction, mu, logvar, _ = output
        error = reconstruction_error(reconstruction, image)
        # not 0 * KL: a variance that nothing holds back may overflow, and 0 * inf is NaN
        return error if self.beta == 0 else error + self.beta * kl_per_dimension(mu, logvar).sum()


class ContrastiveAutoEncoderLoss(BetaVAELoss):
    """NT-Xent of the projections of two views + weight * (mean squared errors of both views), Ferrante et al. 2022.

    A KL joins the errors in their own units, as in :class:`BetaVAELoss`: beta is divided by the pixels of an image.

    Args:
        beta: as of :class:`BetaVAELoss`; 0 is as published.
        temperature: of NT-Xent, above 0.
        weight: of the reconstruction.

    Attributes:
        figures: of the last batch: ``contrast`` is NT-Xent, ``contrast_chance`` what it is in a collapsed network.

    Raises:
        InputError: at a negative beta, or a temperature of 0 or less.
    """

    def __init__(self, beta: float = 0.0, temperature: float = 0.5, weight: float = 0.1) -> None:
        super().__init__(beta)
        self.weight = weight
        self.contrast = ClusterContrastiveLoss("simclr", temperature)
        self.figures: dict[str, Tensor] = {}

    def forward(self, output: tuple[Tensor, ...], image: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            output: that of :class:`BetaVAELoss`, and projections (2b, F) behind it.
            image: (2b, C, H, W); rows i and i + b are the two views of image i, which are also the targets.

        Returns:
            A scalar, computed in float32 at least.
        """
        reconstruction, mu, logvar, z, projections = output
        contrast = self.contrast(projections, torch.zeros(len(projections), device=projections.device))
        errors = 2 * super().forward((reconstruction, mu, logvar, z), image) / image[0].numel()
        self.figures = {"contrast": contrast.detach(), "contrast_chance": self.contrast.figures["chance"]}
        loss: Tensor = contrast + self.weight * errors
        return loss


def reconstruction_error(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Squared error summed over channels and pixels, mean over the batch: a Gaussian likelihood but for constants.

    Args:
        reconstruction: (B, C, H, W).
        image: (B, C, H, W), same shape.

    Returns:
        A scalar.

    Raises:
        ValueError: when the shapes differ; they would broadcast to a wrong sum.
    """
    if reconstruction.shape != image.shape:
        raise ValueError(f"expected a reconstruction of shape {tuple(image.shape)}, got {tuple(reconstruction.shape)}")
    return (_wide(reconstruction) - _wide(image)).square().flatten(1).sum(dim=1).mean()


def kl_per_dimension(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mu, exp(logvar)) to N(0, 1) in nats, mean over the batch.

    Args:
        mu: (B, latent).
        logvar: (B, latent).

    Returns:
        (latent,), each 0 or more.
    """
    mu, logvar = _wide(mu), _wide(logvar)
    return 0.5 * (mu.square() + torch.expm1(logvar) - logvar).mean(dim=0)


def _wide(values: Tensor) -> Tensor:
    """In float32 at least: half precision overflows in sums over pixels and cancels in the KL."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
