"""The cluster-guided contrastive loss, Eq. 2 of the paper, and the family around it.

One function of a similarity matrix and two boolean masks; a preset names a member of the family by four choices: what
is a positive, how several positives are put together, what stands in the denominator, and how anchors are weighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        positives: the anchor's cluster (the other view of its image included), or that other view alone.
        aggregation: the positives are summed inside of the logarithm, or a term of each is averaged outside of it.
        denominator: the negatives; the negatives and the positives of the numerator; or all positives and negatives.
        inverse_weight: an anchor with p positives counts 1 / p.
        repel_mates: where only the own view is a positive, the rest of the cluster are negatives; else neither.
        include_self: an anchor is its own positive, as Eq. 2 is printed.
    """

    positives: Literal["cluster", "own view"]
    aggregation: Literal["sum in log", "mean outside"]
    denominator: Literal["negatives", "negatives and positive", "all"]
    inverse_weight: bool = False
    repel_mates: bool = False
    include_self: bool = False


PRESETS = {
    # Eq. 2; then with the anchor among its own positives, as printed; then bounded below by 0
    "ufc": Preset("cluster", "sum in log", "negatives", inverse_weight=True),
    "ufc_printed": Preset("cluster", "sum in log", "negatives", inverse_weight=True, include_self=True),
    "ufc_softplus": Preset("cluster", "sum in log", "negatives and positive", inverse_weight=True),
    # Khosla et al. 2020, Eq. 2; Feeney & Hughes 2023
    "supcon_out": Preset("cluster", "mean outside", "all"),
    "sincere": Preset("cluster", "mean outside", "negatives and positive"),
    # the cluster only removes false negatives; Chen et al. 2020 (NT-Xent); Yeh et al. 2022, Eq. 6
    "fn_elim": Preset("own view", "sum in log", "negatives and positive"),
    "simclr": Preset("own view", "sum in log", "all", repel_mates=True),
    "dcl": Preset("own view", "sum in log", "negatives", repel_mates=True),
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
        >>> round(float(loss(torch.eye(4), torch.tensor([0, 1, 0, 1]))), 4)  # two images at right angles: log 2
        0.6931
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
            embeddings: (2b, F), of any length; rows i and i + b are the two views of image i.
            clusters: (2b,) int64, the pseudo-label of each row.

        Returns:
            A scalar, computed in float32 at least; 0, with gradients, if no anchor is valid.

        Raises:
            ValueError: at shapes other than these.
        """
        if embeddings.ndim != 2 or len(embeddings) % 2 or clusters.shape != embeddings.shape[:1]:
            raise ValueError(
                f"expected embeddings (2b, F) and clusters (2b,), got {tuple(embeddings.shape)} and "
                f"{tuple(clusters.shape)}"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            f = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            return _mean_loss(f @ f.T / self.temperature, clusters, self.preset)


def anchor_losses(similarity: Tensor, positive: Tensor, negative: Tensor, preset: Preset) -> Tensor:
    """The loss of each anchor against any set of keys.

    Args:
        similarity: s, (anchors, keys), already divided by the temperature.
        positive: (anchors, keys) bool, P.
        negative: (anchors, keys) bool, N.
        preset: which member of the family.

    Returns:
        (anchors,); finite everywhere, but without meaning where an anchor has no positive or no negative.
    """
    numerator = _logsumexp(similarity, positive) if preset.aggregation == "sum in log" else similarity
    denominator = _logsumexp(similarity, positive | negative if preset.denominator == "all" else negative)
    loss = denominator - numerator  # -log(numerator / denominator) of Eq. 2
    if preset.denominator == "negatives and positive":
        loss = F.softplus(loss)  # log((N + P) / P) where the line above is log(N / P)
    p = positive.sum(dim=1).clamp(min=1)
    if preset.aggregation == "mean outside":
        loss = loss.masked_fill(~positive, 0).sum(dim=1, keepdim=True) / p[:, None]
    return loss[:, 0] / p if preset.inverse_weight else loss[:, 0]


def valid_anchors(clusters: Tensor, preset: str) -> Tensor:
    """Which anchors have a positive and a negative, (2b,) bool, from the pseudo-labels (2b,) alone."""
    return _valid(*_masks(clusters, _preset(preset)))


def chance_level(clusters: Tensor, preset: str) -> Tensor:
    """The loss when all embeddings coincide: what a collapsed network has.

    For NT-Xent it is log(2b - 1), for Eq. 2 the mean of log(n / p) / p over anchors with p positives and n negatives.

    Args:
        clusters: (2b,) pseudo-labels of a batch.
        preset: name of the preset.

    Returns:
        A scalar; 0 if no anchor is valid.
    """
    alike = torch.zeros(len(clusters), len(clusters), device=clusters.device)
    return _mean_loss(alike, clusters, _preset(preset))


def uses_clusters(preset: str) -> bool:
    """Whether a preset looks at the pseudo-labels at all."""
    chosen = _preset(preset)
    return chosen.positives == "cluster" or not chosen.repel_mates


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise InputError(f"contrast (the loss's preset) must be one of {', '.join(PRESETS)}; got {name!r}.")
    return PRESETS[name]


def _mean_loss(similarity: Tensor, clusters: Tensor, preset: Preset) -> Tensor:
    positive, negative = _masks(clusters, preset)
    valid = _valid(positive, negative)
    losses = anchor_losses(similarity, positive, negative, preset)
    # a 0 that hangs on the graph: every rank of a distributed run must have gradients
    return losses[valid].mean() if valid.any() else 0 * similarity.sum()


def _valid(positive: Tensor, negative: Tensor) -> Tensor:
    return positive.any(dim=1) & negative.any(dim=1)


def _masks(clusters: Tensor, preset: Preset) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each row of a batch, (2b, 2b) bool; the only place that knows of pairs of views."""
    n = len(clusters)
    index = torch.arange(n, device=clusters.device)
    itself = index[:, None] == index
    own_view = index[:, None] == (index + n // 2) % n
    # the two views of an image are mates whatever the pseudo-labels say
    mates = (clusters[:, None] == clusters) | own_view | itself
    positive = mates & ~itself if preset.positives == "cluster" else own_view
    negative = ~(positive | itself) if preset.repel_mates else ~mates
    return positive | itself if preset.include_self else positive, negative


def _logsumexp(similarity: Tensor, mask: Tensor) -> Tensor:
    """Of the masked entries of each row, (rows, 1); 0 for rows without any, whose gradient would be NaN."""
    empty = ~mask.any(dim=1, keepdim=True)
    chosen = similarity.masked_fill(~(mask | empty), -torch.inf)
    return torch.logsumexp(chosen, dim=1, keepdim=True).masked_fill(empty, 0)
