"""Networks that learn against a slow copy of themselves, which ignite's ``EMAHandler`` makes and moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn


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
