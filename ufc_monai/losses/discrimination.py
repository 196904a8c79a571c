"""Local discrimination (Chen et al. 2021): patches are told apart, pixels gather to regions that all slices share."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.losses.cells import cell_means, matched
from ufc_monai.losses.protocol import DROPPED


class LocalDiscriminationLoss(nn.Module):
    r"""The two steps of local discrimination.

    The first has patches told apart, those of the views and those of mixed slices, by :func:`spreading_losses`. The
    second adds two terms of the regions: their vectors are told apart (:func:`region_losses`), and each pixel shall be
    wholly of a region or not at all (:func:`binary_entropy`):

    .. math:: L = L_{patches} + L_{mixed} + 10\, L_{regions} + 0.1\, L_{entropy}

    Args:
        patch_steps: steps, that is calls, before the second step begins.
        grid: patches along each side of a slice.
        temperature: of patches.
        region_temperature: of regions.
        region_weight: of their loss.
        entropy_weight: of their entropy.

    Attributes:
        figures: of the last batch: the terms, unweighted; ``step``, 1 or 2; ``chance``, the loss if all embeddings
            coincided; ``dropped_anchors``, the share of patches that only one of two views shows; and those of
            :func:`in_use`.
    """

    def __init__(
        self,
        patch_steps: int,
        grid: int = 8,
        temperature: float = 0.1,
        region_temperature: float = 0.2,
        region_weight: float = 10.0,
        entropy_weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.patch_steps, self.grid, self.temperature = patch_steps, grid, temperature
        self.region_temperature, self.region_weight = region_temperature, region_weight
        self.entropy_weight = entropy_weight
        self.calls = 0
        self.figures: dict[str, Tensor] = {}
        self.patches = torch.zeros(0)

    def get_extra_state(self) -> Tensor:
        """How many steps were taken, for a checkpoint."""
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from there."""
        self.calls = int(state)

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """The patches of the first and of the second views of the last batch, whatever the output, (n, D) each."""
        first, second = self.patches.chunk(2)
        return first, second

    def forward(self, output: tuple[Tensor, Tensor, Tensor, Tensor], affine: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            output: of a :class:`~ufc_monai.networks.LocalDiscriminationNetwork`.
            affine: where each pixel of the first views lies in the second, (b, 2, 3) or longer.

        Returns:
            A scalar, in float32 at least.
        """
        embeddings, scores, mixed, shares = output
        self.calls += torch.is_grad_enabled()
        with torch.autocast(embeddings.device.type, enabled=False):
            pixels, mixed = F.normalize(embeddings, dim=1), F.normalize(mixed, dim=1)
            patch_loss, chance = self._of_views(pixels, affine)
            mixed_loss, level = self._of_mixed(mixed, pixels[: 2 * len(mixed)], shares)
            memberships = memberships_of(scores)
            region_loss = region_losses(region_vectors(pixels, memberships), self.region_temperature).mean()
            entropy = binary_entropy(memberships).mean()
            total, chance = patch_loss + mixed_loss, chance + level
            if second := self.calls > self.patch_steps:
                total = total + self.region_weight * region_loss + self.entropy_weight * entropy
                chance = (
                    chance + self.region_weight * math.log(scores.shape[1]) + self.entropy_weight * entropy.detach()
                )
        terms = {"patch_loss": patch_loss, "mixed_loss": mixed_loss, "region_loss": region_loss}
        terms |= {"region_entropy": entropy, "chance": chance, "step": torch.full_like(chance, 1 + second)}
        self.figures |= {name: term.detach() for name, term in terms.items()} | in_use(memberships)
        return total

    def _of_views(self, pixels: Tensor, affine: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the patches of two views of each slice, and what it is if all patches coincide."""
        one, two, seen = matched(pixels, affine)
        (first, known), (second, _) = (cell_means(view, seen, self.grid) for view in (one, two))
        f, valid = torch.cat([first, second]).flatten(0, 1), known.repeat(2, 1).flatten()
        self.patches, self.figures = f.detach(), {DROPPED: 1 - valid.float().mean()}
        index = torch.arange(len(f), device=f.device)
        other, allowed = (index + len(f) // 2) % len(f), valid & (index[:, None] != index)
        losses, level = spreading_losses(f, f.detach(), other, allowed, self.temperature)
        weight = valid.to(f.dtype) / valid.sum().clamp(min=1)
        return weight @ losses, weight @ level

    def _of_mixed(self, mixed: Tensor, pairs: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """The same of mixed slices: a patch of one shall be the mixture of the patches that it is made of."""
        if not len(mixed):
            return mixed.sum(), mixed.sum().detach()
        of_mixed, of_pairs = (cell_means(maps, None, self.grid)[0] for maps in (mixed, pairs.detach()))
        first, second = of_pairs.chunk(2)
        target = F.normalize(torch.lerp(second, first, shares[:, None, None].to(first.dtype)), dim=2)
        f, n = torch.cat([of_mixed, target]).flatten(0, 1), target.shape[:2].numel()
        index = torch.arange(2 * n, device=f.device)
        losses, level = spreading_losses(f[:n], f.detach(), index[n:], index[:n, None] != index, self.temperature)
        return losses.mean(), level.mean()


def spreading_losses(
    anchors: Tensor, keys: Tensor, positive: Tensor, allowed: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    r"""The instance-spreading criterion (Ye et al. 2019): an anchor finds its own key, and no key of another finds it.

    .. math:: \ell_a = -\log P(p_a | a) - \sum_{j \ne p_a} \log(1 - P(j | a)), \qquad P(j | a) = \frac{e^{a \cdot k_j /
              \tau}}{\sum_i e^{a \cdot k_i / \tau}}

    Args:
        anchors: unit vectors, (n, D).
        keys: unit vectors (m, D), usually without gradient: every patch is an anchor in its turn.
        positive: number of each anchor's key, (n,).
        allowed: (n, m) bool, the keys that an anchor meets; the anchor itself is none.
        temperature: tau.

    Returns:
        The loss of each anchor, (n,), which has no meaning where its own key is not allowed; and the loss that it would
        have if all vectors coincided.
    """
    own = allowed.gather(1, positive[:, None])
    allowed = allowed | ~own  # where nothing is allowed, there would be no probabilities
    log_p = (anchors @ keys.T / temperature).masked_fill(~allowed, -torch.inf).log_softmax(dim=1)
    # log(1 - P); at P = 1 its slope would be infinite
    log_rest = torch.log(-torch.expm1(log_p.clamp(max=-torch.finfo(log_p.dtype).eps)))
    found, spared = log_p.gather(1, positive[:, None]), log_rest.gather(1, positive[:, None])
    n = allowed.sum(dim=1).clamp(min=2).to(log_p.dtype)
    return (spared - found)[:, 0] - log_rest.sum(dim=1), n.log() - (n - 1) * torch.log1p(-1 / n)


def memberships_of(scores: Tensor) -> Tensor:
    """How much each pixel is of each region, (n, K, H, W), K shares that add up to 1, of scores of that shape."""
    maps = scores.sigmoid()
    return maps / maps.sum(dim=1, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def region_vectors(pixels: Tensor, memberships: Tensor) -> Tensor:
    """The direction of the mean embedding of each region of each image, (n, K, D).

    Args:
        pixels: embeddings of unit length, (n, D, H, W).
        memberships: of the pixels, (n, K, H, W).
    """
    return F.normalize(memberships.flatten(2) @ pixels.flatten(2).transpose(1, 2), dim=2)


def region_losses(vectors: Tensor, temperature: float) -> Tensor:
    """How badly the regions of an image are told apart by their means over all images, (n, K).

    Cross-entropy: the vector of region k of an image shall be nearest to the mean vector of the regions k.

    Args:
        vectors: of the regions, of unit length, (n, K, D).
        temperature: that similarities are divided by.
    """
    prototypes = F.normalize(vectors.mean(dim=0), dim=1)
    log_p = (vectors @ prototypes.T / temperature).log_softmax(dim=2)
    return -log_p.diagonal(dim1=1, dim2=2)


def binary_entropy(shares: Tensor) -> Tensor:
    """Of being of a region or not, in bits: 0 where a share is 0 or 1, and 1 where it is a half."""
    eps = torch.finfo(shares.dtype).eps
    shares = shares.clamp(eps, 1 - eps)  # at 0 its slope would be infinite
    nats: Tensor = torch.special.entr(shares) + torch.special.entr(1 - shares)
    return nats / math.log(2)


@torch.no_grad()
def in_use(memberships: Tensor) -> dict[str, Tensor]:
    """Whether regions are degenerate: ``region_shares`` and ``effective_regions`` of memberships (n, K, H, W).

    Returns:
        The share of the pixels in which each region is the strongest, (K,), and exp of the entropy of these shares, up
        to K if all are the same; 1 if one region has taken everything.
    """
    shares = (memberships == memberships.amax(dim=1, keepdim=True)).float().mean(dim=(0, 2, 3))
    return {"region_shares": shares, "effective_regions": torch.special.entr(shares / shares.sum()).sum().exp()}
