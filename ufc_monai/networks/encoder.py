"""The down-sampling path of the UNet with its projection head (section II.B of the paper), and slow copies of both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.basic_unet import Down, TwoConv
from torch import Tensor, nn

LEAKY_RELU = ("LeakyReLU", {"negative_slope": 0.1, "inplace": True})
"""The activation of MONAI's BasicUNet."""


class UNetEncoder(nn.Module):
    """The encoder of MONAI's 2D ``BasicUNet``, under the same parameter names.

    Its state dict is the part of ``BasicUNet``'s whose names begin with ``conv_0`` or ``down_``, so that weights
    travel without renaming.

    Args:
        features: the six widths of ``BasicUNet``; the first five are the encoder's, the last is the decoder's and
            is accepted so that one list serves both networks.
        norm: normalisation as in MONAI: ``"instance"``, ``"batch"``, or a tuple of name and arguments.
        in_channels: channels of the image.

    Example:
        >>> encoder = UNetEncoder(features=(4, 4, 8, 8, 16, 4))
        >>> tuple(encoder(torch.rand(2, 1, 32, 32)).shape)
        (2, 16)
    """

    def __init__(
        self,
        features: Sequence[int] = (32, 64, 128, 256, 512, 32),
        norm: str | Sequence[object] = ("instance", {"affine": True}),
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        norm = norm if isinstance(norm, str) else tuple(norm)
        self.conv_0 = TwoConv(2, in_channels, features[0], LEAKY_RELU, norm, bias=True)
        self.down_1 = Down(2, features[0], features[1], LEAKY_RELU, norm, bias=True)
        self.down_2 = Down(2, features[1], features[2], LEAKY_RELU, norm, bias=True)
        self.down_3 = Down(2, features[2], features[3], LEAKY_RELU, norm, bias=True)
        self.down_4 = Down(2, features[3], features[4], LEAKY_RELU, norm, bias=True)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The five feature maps from full resolution down to 1/16, ``(B, features[i], H / 2**i, W / 2**i)``."""
        x0 = self.conv_0(x)
        x1 = self.down_1(x0)
        x2 = self.down_2(x1)
        x3 = self.down_3(x2)
        x4 = self.down_4(x3)
        return x0, x1, x2, x3, x4

    def forward(self, x: Tensor) -> Tensor:
        """The feature vector of a slice: the deepest map, averaged over its pixels.

        Args:
            x: slices, ``(B, in_channels, H, W)``, H and W at least 16.

        Returns:
            ``(B, features[4])``.
        """
        return self.feature_maps(x)[4].mean(dim=(2, 3))


class ProjectionHead(nn.Sequential):
    """The two-layer perceptron between feature and embedding; thrown away after pretraining.

    Args:
        in_features: length of the encoder's feature vector.
        hidden: width between the two layers (the paper: 2048).
        out_features: length of the embedding (the paper: 256).
        norm: batch normalisation between the layers, as BYOL's predictor has it.
    """

    def __init__(self, in_features: int, hidden: int = 2048, out_features: int = 256, *, norm: bool = False) -> None:
        between = [nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
        super().__init__(nn.Linear(in_features, hidden), *between, nn.Linear(hidden, out_features))


class ContrastiveNetwork(nn.Module):
    """``f = L2(MLP(Enc(x)))``: what stage 2 trains.

    Args:
        encoder: maps ``(B, C, H, W)`` to ``(B, F)``.
        head: maps ``(B, F)`` to the embedding ``(B, D)``.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings of unit length, ``(B, D)``."""
        return torch.nn.functional.normalize(self.head(self.encoder(x)), dim=1)


class MomentumNetwork(nn.Module):
    """The two encoders of MoCo (He et al. 2020): queries learn, keys follow.

    Args:
        query: maps (b, C, H, W) to embeddings (b, D).
        key: its slow copy.
    """

    def __init__(self, query: nn.Module, key: nn.Module) -> None:
        super().__init__()
        self.query = query
        self.key = key

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Queries of the first views and keys of the second ones, (b, D) each.

        Args:
            x: (2b, C, H, W); rows i and i + b are the two views of image i.
        """
        first, second = x.chunk(2)
        with torch.no_grad():
            keys = self.key(second)
        return self.query(first), keys


class BootstrapNetwork(nn.Module):
    """The online and the target network of BYOL (Grill et al. 2020).

    Args:
        online: encoder and projection head, (b, C, H, W) to (b, D), of any length.
        target: its slow copy.
        predictor: (b, D) to (b, D); the asymmetry that keeps the two from collapsing.
    """

    def __init__(self, online: nn.Module, target: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.online = online
        self.target = target
        self.predictor = predictor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions of all views, and the targets of the other view of each, (2b, D) each.

        Args:
            x: (2b, C, H, W); rows i and i + b are the two views of image i.
        """
        with torch.no_grad():
            targets = self.target(x).roll(len(x) // 2, dims=0)
        return self.predictor(self.online(x)), targets
