"""The first blocks of the UNet's decoder, for a local contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from ufc_monai.networks.encoder import LEAKY_RELU, UNetEncoder


class UNetDecoder(nn.Module):
    """The decoder of MONAI's 2D ``BasicUNet`` up to half of the resolution, under the same parameter names.

    These are the three blocks that GLCL pretrains (Chaitanya et al. 2020, l = 3); the last one, ``upcat_1``, is left to
    fine-tuning.

    Args:
        features: the six widths of ``BasicUNet``.
        norm: as in :class:`UNetEncoder`.
    """

    def __init__(self, features: Sequence[int], norm: str | Sequence[object]) -> None:
        super().__init__()
        norm = norm if isinstance(norm, str) else tuple(norm)
        for i in (4, 3, 2):
            block = UpCat(2, features[i], features[i - 1], features[i - 1], LEAKY_RELU, norm, bias=True)
            self.add_module(f"upcat_{i}", block)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """From the encoder's five maps, full resolution first, to (B, features[1], H / 2, W / 2)."""
        x = maps[4]
        for block, finer in zip(self.children(), maps[3:0:-1], strict=True):
            x = block(x, finer)
        return x


class LocalNetwork(nn.Module):
    """What GLCL trains in its second step: the decoder, behind a frozen encoder.

    Args:
        encoder: the pretrained encoder; no gradient reaches it.
        decoder: its first blocks.
        channels: of the decoder's map.
        embedding_size: of a pixel.
    """

    def __init__(self, encoder: UNetEncoder, decoder: UNetDecoder, channels: int, embedding_size: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, embedding_size, kernel_size=1),
        )

    def train(self, mode: bool = True) -> LocalNetwork:
        """As usual, except that the encoder's batch norms keep their pretrained statistics."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings of the pixels, (B, embedding_size, H / 2, W / 2)."""
        with torch.no_grad():
            maps = self.encoder.feature_maps(x)
        embeddings: Tensor = self.head(self.decoder(maps))
        return embeddings
