"""The auto-encoder of stage 1 built on the UNet's own encoder, so that its weights can start stage 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.networks.encoder import UNetEncoder
from ufc_monai.networks.prototypes import Prototypes
from ufc_monai.networks.vae import draw

FACTOR = 16
"""How much smaller the deepest map of the encoder is than the image."""


class UNetVAE(UNetEncoder):
    """AE, VAE and beta-VAE on the down-sampling path of the UNet; takes and returns what ``BetaVAE`` does.

    The encoder keeps its parameters' names, so that the weights start the encoder of MONAI's ``BasicUNet`` as those of
    stage 2 do. Its deepest map is flattened, not averaged, on the way to the latent vector; the decoder mirrors it
    without skip connections. Decoding has batch normalisation whatever ``norm`` is: instance normalisation would give
    every slice the same brightness.

    Args:
        image_size: side of the input in pixels, a multiple of 16, at least 32.
        latent_size: length of the latent vector.
        features: the six widths of ``BasicUNet``, as in stage 3.
        norm: normalisation of the encoder as in MONAI, as in stage 3.
        sampling: draw ``z`` from the posterior while training; ``False`` for the plain auto-encoder.
        in_channels: channels of the slice.
        use_sigmoid: keep reconstructions within [0, 1]; ``False`` for standardised slices, which are not.
        prototypes: as of ``BetaVAE``.

    Raises:
        InputError: at another ``image_size``.

    Example:
        >>> net = UNetVAE(image_size=32, latent_size=8, features=(4, 4, 8, 8, 16, 4))
        >>> reconstruction, mu, logvar, z = net(torch.rand(2, 1, 32, 32))
        >>> tuple(reconstruction.shape), tuple(mu.shape)
        ((2, 1, 32, 32), (2, 8))
    """

    def __init__(
        self,
        image_size: int,
        latent_size: int,
        features: Sequence[int],
        norm: str | Sequence[object] = ("instance", {"affine": True}),
        sampling: bool = True,
        in_channels: int = 1,
        use_sigmoid: bool = True,
        prototypes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(features, norm, in_channels)
        side, rest = divmod(image_size, FACTOR)
        if rest or side < 2:
            raise InputError(
                f"image_size must be a multiple of {FACTOR}, at least {2 * FACTOR}, for the UNet's encoder; got "
                f"{image_size}: choose --image_size {max(2, round(image_size / FACTOR)) * FACTOR}."
            )
        self.deepest = (features[4], side, side)
        self.mu = nn.Linear(math.prod(self.deepest), latent_size)
        self.logvar = nn.Linear(math.prod(self.deepest), latent_size)
        self.prototypes = Prototypes(latent_size, **prototypes) if prototypes else nn.Identity()
        decoded = latent_size + (prototypes["number"] if prototypes else 0)
        self.decode_latent = nn.Linear(decoded, math.prod(self.deepest))
        self.decode = nn.Sequential(
            *(
                Convolution(2, width, wider, strides=2, is_transposed=True, norm="batch")
                for width, wider in pairwise(features[4::-1])
            ),
            Convolution(2, features[0], in_channels, conv_only=True),
        )
        self.sampling = sampling
        self.use_sigmoid = use_sigmoid

    def encode_forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and log-variances, (B, latent_size) each."""
        deepest = self.feature_maps(x)[4].flatten(1)
        return self.mu(deepest), self.logvar(deepest)

    def decode_forward(self, z: Tensor) -> Tensor:
        """Reconstructions, (B, in_channels, image_size, image_size)."""
        deepest = torch.relu(self.decode_latent(self.prototypes(z))).view(-1, *self.deepest)
        reconstruction: Tensor = self.decode(deepest)
        return torch.sigmoid(reconstruction) if self.use_sigmoid else reconstruction

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Reconstruction, mean, log-variance and ``z``; ``z`` is the mean in eval mode and without ``sampling``."""
        mu, logvar = self.encode_forward(x)
        z = draw(mu, logvar) if self.training and self.sampling else mu
        return self.decode_forward(z), mu, logvar, z


class UNetFeatureVAE(UNetVAE):
    """The trained :class:`UNetVAE` as a feature extractor: the same parameters, and posterior means come out."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Posterior means, (B, latent_size), of slices (B, in_channels, image_size, image_size)."""
        return self.encode_forward(x)[0]
