"""The up-sampling path of the UNet with its last layer, and what is trained of both paths without labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.basic_unet import BasicUNet, UpCat
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.networks.encoder import LEAKY_RELU, UNetEncoder

MIXING = (0.2, 0.8)
"""Range of the share of the first slice in a mixed one."""


class UNetDecoder(nn.Module):
    """The decoder of MONAI's 2D ``BasicUNet`` and the 1x1 convolution behind it, under the same parameter names.

    Its state dict and that of :class:`UNetEncoder` are together that of a ``BasicUNet``; fine-tuning takes over all but
    the last layer, ``final_conv``.

    Args:
        features: the six widths of ``BasicUNet``.
        norm: as in :class:`UNetEncoder`.
        out_channels: of each pixel.
    """

    def __init__(self, features: Sequence[int], norm: str | Sequence[object], out_channels: int) -> None:
        super().__init__()
        norm = norm if isinstance(norm, str) else tuple(norm)
        for i in (4, 3, 2, 1):
            out = features[i - 1 if i > 1 else 5]
            block = UpCat(2, features[i], features[i - 1], out, LEAKY_RELU, norm, bias=True, halves=i > 1)
            self.add_module(f"upcat_{i}", block)
        self.final_conv = nn.Conv2d(features[5], out_channels, kernel_size=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """From the encoder's five maps, full resolution first, to (B, out_channels, H, W)."""
        x = maps[4]
        *blocks, last = self.children()
        for block, finer in zip(blocks, maps[3::-1], strict=True):
            x = block(x, finer)
        pixels: Tensor = last(x)
        return pixels


class GlobalLocalNetwork(nn.Module):
    """Encoder and head that embed whole slices, and a decoder that embeds their pixels.

    Args:
        encoder: of the UNet.
        head: maps the encoder's vector (B, F) to the embedding (B, D).
        decoder: of the same widths.
        joint: whether the gradient of pixels reaches the encoder; in GLCL it does not.
    """

    def __init__(self, encoder: UNetEncoder, head: nn.Module, decoder: UNetDecoder, *, joint: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.decoder = decoder
        self.joint = joint

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of slices, (B, D), of unit length, and of their pixels, (B, out_channels, H, W)."""
        maps = self.encoder.feature_maps(x)
        whole = F.normalize(self.head(maps[4].mean(dim=(2, 3))), dim=1)
        return whole, self.decoder(maps if self.joint else [m.detach() for m in maps])


class LocalDiscriminationNetwork(nn.Module):
    """Encoder, decoder and the two branches of local discrimination (Chen et al. 2021), which share the last layer.

    Args:
        encoder: of the UNet.
        decoder: of the same widths, with ``embedding_size`` and as many channels more as there are regions.
        embedding_size: of a pixel.
    """

    def __init__(self, encoder: UNetEncoder, decoder: UNetDecoder, embedding_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embedding_size = embedding_size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Look at two views of each slice, and at mixed slices: the first view of slice i with that of i + b // 2.

        Args:
            x: (2b, C, H, W); rows i and i + b are the two views of slice i.

        Returns:
            Embeddings of the views' pixels, (2b, D, H, W), of any length; their scores (2b, K, H, W), whose sigmoids
            are how much a pixel is of each region; embeddings of the mixed slices' pixels, (b // 2, D, H, W); and the
            share of the first slice in each of these, (b // 2,).
        """
        n = len(x) // 4
        low, high = MIXING
        shares = torch.rand(n).mul(high - low).add(low).to(x.device)
        mixed = torch.lerp(x[n : 2 * n], x[:n], shares[:, None, None, None].to(x.dtype))
        pixels = self.decoder(self.encoder.feature_maps(torch.cat([x, mixed])))
        embeddings, regions = pixels.tensor_split([self.embedding_size], dim=1)
        views, of_mixed = embeddings.tensor_split([len(x)])
        return views, regions[: len(x)], of_mixed, shares


class RegionUNet(BasicUNet):
    """The first region of a :class:`LocalDiscriminationNetwork` as a segmentation: background, and the region.

    Its state dict is that of encoder and decoder. The softmax of what it returns is a pixel's share in all other
    regions, and in the first.

    Args:
        features: the six widths of ``BasicUNet``.
        norm: as in :class:`UNetEncoder`.
        in_channels: of the image.
        embedding_size: channels in front of those of the regions.
        regions: how many, 2 at least.
    """

    def __init__(
        self, features: Sequence[int], norm: str | Sequence[object], in_channels: int, embedding_size: int, regions: int
    ) -> None:
        norm = norm if isinstance(norm, str) else tuple(norm)
        super().__init__(2, in_channels, embedding_size + regions, features, LEAKY_RELU, norm)
        self.embedding_size = embedding_size

    def forward(self, x: Tensor) -> Tensor:
        """From slices (B, C, H, W) to logits (B, 2, H, W)."""
        logs = F.logsigmoid(super().forward(x)[:, self.embedding_size :])
        return torch.cat([logs[:, 1:].logsumexp(dim=1, keepdim=True), logs[:, :1]], dim=1)


class MaskDiscriminator(nn.Sequential):
    """Tells true masks from made ones: seven convolutions of 16 and 32 channels, whose last map is averaged.

    (B, 1, H, W) with values in [0, 1] becomes logits (B,), above 0 for true ones.
    """

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after, stride in ((1, 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2), (32, 32, 1), (32, 32, 2)):
            layers += [nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1), nn.LeakyReLU(0.2)]
        last = nn.Conv2d(32, 1, kernel_size=3, padding=1)
        super().__init__(*layers, last, nn.AdaptiveAvgPool2d(1), nn.Flatten(start_dim=0))
