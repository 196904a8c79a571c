"""The (beta-)VAE that learns the features of stage 1 (section II.A of the paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import VarAutoEncoder
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.networks.prototypes import Prototypes


class BetaVAE(VarAutoEncoder):
    """MONAI's ``VarAutoEncoder`` for square slices: AE, VAE and beta-VAE in one.

    Each entry of ``channels`` is one convolution of stride 2, so the image shrinks by ``2 ** len(channels)``
    before it is flattened into the latent vector.

    Args:
        image_size: side of the input in pixels, a multiple of ``2 ** len(channels)``.
        latent_size: length of the latent vector.
        channels: widths of the encoder from the input down; the decoder mirrors them.
        norm: MONAI's name of the normalisation. Instance normalisation would remove the brightness of a slice
            from its features, hence batch normalisation.
        sampling: draw ``z`` from the posterior while training. ``False`` gives the plain auto-encoder, the
            case beta = 0: ``z`` is the posterior mean.
        in_channels: channels of the slice.
        use_sigmoid: keep reconstructions within [0, 1]; ``False`` for standardised slices, which are not.
        prototypes: arguments of :class:`~ufc_monai.networks.prototypes.Prototypes`, whose assignment the decoder then
            gets along with the latent vector.

    Raises:
        InputError: if ``image_size`` does not divide by ``2 ** len(channels)``.

    Example:
        >>> net = BetaVAE(image_size=32, latent_size=8, channels=(4, 8))
        >>> reconstruction, mu, logvar, z = net(torch.rand(2, 1, 32, 32))
        >>> tuple(reconstruction.shape), tuple(mu.shape)
        ((2, 1, 32, 32), (2, 8))
    """

    def __init__(
        self,
        image_size: int,
        latent_size: int,
        channels: Sequence[int],
        norm: str = "batch",
        sampling: bool = True,
        in_channels: int = 1,
        use_sigmoid: bool = True,
        prototypes: Mapping[str, Any] | None = None,
    ) -> None:
        factor = 2 ** len(channels)
        if image_size % factor:
            raise InputError(
                f"image_size must be a multiple of {factor} for {len(channels)} channels, got {image_size}: "
                f"choose --image_size {max(1, round(image_size / factor)) * factor} or change vae_channels."
            )
        super().__init__(
            spatial_dims=2,
            in_shape=(in_channels, image_size, image_size),
            out_channels=in_channels,
            latent_size=latent_size,
            channels=channels,
            strides=[2] * len(channels),
            norm=norm,
            use_sigmoid=use_sigmoid,
        )
        self.sampling = sampling
        self.prototypes = Prototypes(latent_size, **prototypes) if prototypes else nn.Identity()
        if prototypes:
            self.decodeL = nn.Linear(latent_size + prototypes["number"], self.mu.in_features)

    def decode_forward(self, z: Tensor, use_sigmoid: bool | None = None) -> Tensor:
        """Reconstructions of latent vectors (B, latent_size), with the prototypes' assignment of each if there are."""
        bounded = self.use_sigmoid if use_sigmoid is None else use_sigmoid
        reconstruction: Tensor = super().decode_forward(self.prototypes(z), bounded)
        return reconstruction

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Draw ``z ~ N(mu, exp(logvar))`` while training; the mean in eval mode and without ``sampling``."""
        return draw(mu, logvar) if self.training and self.sampling else mu


class FeatureVAE(BetaVAE):
    """The trained VAE as a feature extractor: the same parameters, and a ``forward`` that returns one tensor.

    A bundle's ``network_def`` has to map a tensor to a tensor; the features of a slice are the posterior means.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Posterior means.

        Args:
            x: slices, ``(B, in_channels, image_size, image_size)``.

        Returns:
            ``(B, latent_size)``.
        """
        mu: Tensor = self.encode_forward(x)[0]
        return mu


def draw(mu: Tensor, logvar: Tensor) -> Tensor:
    """Draw from N(mu, exp(logvar)), so that gradients reach both (the reparameterisation)."""
    return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
