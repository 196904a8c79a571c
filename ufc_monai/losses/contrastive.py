"""The cluster-guided contrastive loss, Eq. 2 of the paper, and the family around it.

One function of a similarity matrix and boolean masks; a preset names a member of the family by four choices: what is a
positive, how several positives are put together, what stands in the denominator, and how anchors are weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.errors import InputError

__all__ = [
    "PRESETS",
    "ClusterContrastiveLoss",
    "Preset",
    "anchor_losses",
    "chance_level",
    "uses_clusters",
    "valid_anchors",
]


@dataclass(frozen=True)
class Preset:
    """A member of the family.

    Attributes:
        clusters: features of the same pseudo-label are positives; else only the other view of the image is.
        repel_mates: features of the same pseudo-label may be negatives; only where they are not positives.
        sum_in_log: the positives are summed inside of the logarithm; else the terms are averaged outside of it.
        denominator: ``"negatives"``, ``"negatives and positive"`` (the positives of the numerator too) or ``"all"``.
        inverse_weight: an anchor with p positives counts 1 / p.
        include_self: an anchor is its own positive, as Eq. 2 is printed.
    """

    clusters: bool = True
    repel_mates: bool = False
    sum_in_log: bool = True
    denominator: str = "negatives"
    inverse_weight: bool = False
    include_self: bool = False


PRESETS = {
    "ufc": Preset(inverse_weight=True),  # Eq. 2, without the anchor among its own positives
    "ufc_printed": Preset(inverse_weight=True, include_self=True),  # Eq. 2 as printed
    "ufc_softplus": Preset(inverse_weight=True, denominator="negatives and positive"),
    "supcon_out": Preset(sum_in_log=False, denominator="all"),  # Khosla et al. 2020, Eq. 2
    "sincere": Preset(sum_in_log=False, denominator="negatives and positive"),  # Feeney & Hughes 2023
    "fn_elim": Preset(clusters=False, denominator="negatives and positive"),  # mates are only no negatives
    "simclr": Preset(clusters=False, repel_mates=True, denominator="negatives and positive"),  # NT-Xent
    "dcl": Preset(clusters=False, repel_mates=True),  # Yeh et al. 2021, Eq. 6
}
"""The family's members by name; ``ufc`` is the paper's."""


class ClusterContrastiveLoss(nn.Module):
    r"""Contrastive loss in which slices of the same cluster are never pushed apart (Eq. 2 of the paper).

    .. math:: L = \frac{1}{2b} \sum_i \frac{1}{|P_i|} \Big( \log \sum_{k \in N_i} e^{s_{ik}}
              - \log \sum_{j \in P_i} e^{s_{ij}} \Big), \qquad s_{ij} = f_i \cdot f_j / \tau

    with P the features of the anchor's pseudo-label but itself and N those of the other pseudo-labels. Anchors without
    a negative (or without a positive) are left out of the mean. Values below zero are normal; values of different
    presets cannot be compared.

    Args:
        preset: a name in :data:`PRESETS`.
        temperature: tau, above 0, typically 0.05 to 0.5; the paper takes 0.1.

    Raises:
        InputError: at an unknown preset or a temperature of 0 or less.

    Example:
        >>> loss = ClusterContrastiveLoss("ufc")
        >>> float(loss(torch.eye(4), torch.tensor([0, 1, 0, 1])))  # two images, two views, all at right angles
        0.6931471824645996
    """

    def __init__(self, preset: str = "ufc", temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0:
            raise InputError(f"temperature must be above 0, got {temperature}.")
        self.preset = _preset(preset)
        self.temperature = temperature

    def forward(self, embeddings: Tensor, clusters: Tensor) -> Tensor:
        """Mean loss of the valid anchors.

        Args:
            embeddings: (2b, D), any length; rows i and i + b are the two views of image i.
            clusters: (2b,) integers, the pseudo-label of each row.

        Returns:
            A scalar, computed in float32 at least; 0, with gradients, if no anchor is valid.
        """
        if embeddings.ndim != 2 or len(embeddings) % 2 or clusters.shape != embeddings.shape[:1]:
            raise ValueError(
                f"expected embeddings (2b, D) and clusters (2b,), got {tuple(embeddings.shape)} and "
                f"{tuple(clusters.shape)}"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            f = F.normalize(wide, dim=1)
            losses, valid = anchor_losses(f @ f.T / self.temperature, clusters, self.preset)
            return losses[valid].mean() if valid.any() else 0.0 * wide.sum()


def anchor_losses(similarity: Tensor, clusters: Tensor, preset: Preset) -> tuple[Tensor, Tensor]:
    """The loss of each anchor.

    Args:
        similarity: s, (M, M), already divided by the temperature.
        clusters: (M,) pseudo-labels.
        preset: which member of the family.

    Returns:
        Losses (M,), which mean something only where valid, and the valid anchors (M,) bool.
    """
    positive, negative = _masks(clusters, preset)
    valid = positive.any(dim=1) & negative.any(dim=1)
    p = positive.sum(dim=1)
    repulsion = _logsumexp(similarity, negative)
    if preset.sum_in_log:
        loss = repulsion - _logsumexp(similarity, positive)
        loss = F.softplus(loss) if preset.denominator == "negatives and positive" else loss
    else:
        others = _logsumexp(similarity, positive | negative)[:, None]
        terms = others - similarity if preset.denominator == "all" else F.softplus(repulsion[:, None] - similarity)
        loss = terms.masked_fill(~positive, 0).sum(dim=1) / p.clamp(min=1)
    return loss / p.clamp(min=1) if preset.inverse_weight else loss, valid


def valid_anchors(clusters: Tensor, preset: str) -> Tensor:
    """Which anchors have a positive and a negative, (2b,) bool, from the pseudo-labels (2b,) alone."""
    positive, negative = _masks(clusters, _preset(preset))
    return positive.any(dim=1) & negative.any(dim=1)


def chance_level(clusters: Tensor, preset: str) -> Tensor:
    """The loss when all embeddings coincide: what a collapsed or untrained network has at best.

    For NT-Xent it is log(2b - 1), for Eq. 2 the mean of log(n / p) / p over anchors with p positives and n negatives.

    Args:
        clusters: (2b,) pseudo-labels of a batch.
        preset: name of the preset.

    Returns:
        A scalar; 0 if no anchor is valid.
    """
    alike = torch.zeros(len(clusters), len(clusters), device=clusters.device)
    losses, valid = anchor_losses(alike, clusters, _preset(preset))
    return losses[valid].mean() if valid.any() else losses.new_zeros(())


def uses_clusters(preset: str) -> bool:
    """Whether a preset looks at the pseudo-labels at all."""
    chosen = _preset(preset)
    return chosen.clusters or not chosen.repel_mates


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise InputError(f"contrast must be one of {', '.join(PRESETS)}; got {name!r}.")
    return PRESETS[name]


def _masks(clusters: Tensor, preset: Preset) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each anchor, (2b, 2b) bool."""
    n = len(clusters)
    index = torch.arange(n, device=clusters.device)
    itself = torch.eye(n, dtype=torch.bool, device=clusters.device)
    other_view = index[:, None] == (index[None, :] + n // 2) % n
    # the two views of an image are mates whatever the pseudo-labels say
    mates = (clusters[:, None] == clusters[None, :]) | other_view | itself
    positive = mates & ~itself if preset.clusters else other_view
    negative = ~(positive | itself) if preset.repel_mates else ~mates
    return positive | itself if preset.include_self else positive, negative


def _logsumexp(similarity: Tensor, mask: Tensor) -> Tensor:
    """log sum exp over the masked entries of each row; rows without any are 0, so that no gradient becomes NaN."""
    empty = ~mask.any(dim=1, keepdim=True)
    chosen = similarity.masked_fill(~(mask | empty), -torch.inf)
    return torch.logsumexp(chosen, dim=1).masked_fill(empty[:, 0], 0)
