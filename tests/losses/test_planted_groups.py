"""What clusters do to the contrast, where the groups are known: textures in four groups."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.losses.contrastive import ClusterContrastiveLoss

GROUPS, SIZE, STEPS, BATCH = 4, 12, 80, 32
MARGIN = 0.1
"""What true groups gain over random ones at least; measured: 0.12 or more with each of eight seeds."""


def textures(group: Tensor, generator: torch.Generator) -> Tensor:
    """Gratings of one direction a group; phase, contrast and noise differ from picture to picture."""
    along = torch.arange(SIZE, dtype=torch.float32)
    angle = group * torch.pi / GROUPS
    phase, strength = (torch.rand(len(group), generator=generator) for _ in range(2))
    x = angle.cos()[:, None, None] * along + angle.sin()[:, None, None] * along[:, None]
    waves = torch.sin(1.3 * x + 2 * torch.pi * phase[:, None, None])
    noise = torch.randn(len(group), SIZE, SIZE, generator=generator)
    return ((0.4 + strength[:, None, None]) * waves + 0.8 * noise)[:, None]


def two_views(image: Tensor, generator: torch.Generator) -> Tensor:
    """Views shift a picture and add noise."""
    views = [
        image.roll(tuple(torch.randint(SIZE, (2,), generator=generator).tolist()), (2, 3))
        + 0.5 * torch.randn(image.shape, generator=generator)
        for _ in range(2)
    ]
    return torch.cat(views)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8)
    )


def false_negatives(pseudo: Tensor, group: Tensor) -> float:
    """The share of the contrasted pairs that are of one group."""
    negative = pseudo[:, None] != pseudo
    return float((negative & (group[:, None] == group)).sum() / negative.sum())


@functools.cache
def separation(labels: str, seed: int) -> float:
    """The share of the variance of new pictures' embeddings that lies between the groups, after a short training."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    group = torch.randint(GROUPS, (256,), generator=generator)
    images = textures(group, generator)
    pseudo = group if labels == "true" else group[torch.randperm(len(group), generator=generator)]
    net, loss = network(), ClusterContrastiveLoss("ufc")
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(STEPS):
        chosen = torch.randint(len(group), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss(net(two_views(images[chosen], generator)), pseudo[chosen].repeat(2)).backward()
        optimizer.step()
    new = group.roll(1)
    with torch.no_grad():
        f = F.normalize(net(textures(new, generator)), dim=1)
    means = torch.stack([f[new == g].mean(0) for g in range(GROUPS)])
    return float((means[new] - f.mean(0)).square().sum() / (f - f.mean(0)).square().sum())


@pytest.mark.parametrize("seed", range(5))
def test_true_groups_contrast_no_mates_and_random_ones_do(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(GROUPS, (200,), generator=generator)
    shuffled = group[torch.randperm(len(group), generator=generator)]
    assert false_negatives(group, group) == 0
    every_slice_its_own = false_negatives(torch.arange(200), group)
    assert abs(false_negatives(shuffled, group) - every_slice_its_own) < 0.05
    assert every_slice_its_own > 0.2


@pytest.mark.parametrize("seed", range(5))
def test_random_pseudo_labels_hurt(seed: int) -> None:
    assert separation("true", seed) > separation("random", seed) + MARGIN
