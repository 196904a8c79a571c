"""Embeddings, pseudo-labels and what the contrastive losses say of them, for their tests."""

from __future__ import annotations

import torch
from torch import Tensor

from ufc_monai.losses.contrastive import PRESETS, ClusterContrastiveLoss, anchor_losses

LOWEST, HIGHEST = -1.0, 1.0
IGNORE_CLUSTERS = ["simclr", "dcl"]
NEED_CLUSTERS = [name for name in PRESETS if name not in IGNORE_CLUSTERS]
CLUSTERS = {
    "mixed": [0, 1, 0, 2, 0],
    "unique": [4, 3, 2, 1, 0],
    "one cluster but one": [7, 7, 7, 7, -1],
}


class PerAnchor(ClusterContrastiveLoss):
    """Each anchor's loss, without meaning where it is not valid."""

    def reduced(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return anchor_losses(similarity, positive, negative, self.preset)


def two_views(clusters: list[int]) -> Tensor:
    return torch.tensor(clusters).repeat(2)


def draw(n: int, size: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def value(preset: str, embeddings: Tensor, clusters: Tensor, temperature: float = 0.3) -> Tensor:
    loss: Tensor = ClusterContrastiveLoss(preset, temperature)(embeddings, clusters)
    return loss


def per_anchor(preset: str, embeddings: Tensor, clusters: Tensor) -> Tensor:
    losses: Tensor = PerAnchor(preset, 0.3)(embeddings, clusters)
    return losses


def figures(preset: str, clusters: Tensor) -> dict[str, Tensor]:
    loss = ClusterContrastiveLoss(preset)
    loss(draw(len(clusters)), clusters)
    return loss.figures


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of)[0]


def masks(clusters: Tensor) -> tuple[Tensor, Tensor]:
    same = clusters[:, None] == clusters
    return same & ~torch.eye(len(clusters), dtype=torch.bool), ~same
