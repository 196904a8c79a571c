"""The cluster-guided contrastive loss, Eq. 2 of the paper, and the family around it.

One function of a similarity matrix and two boolean masks; a preset names a member of the family by four choices: what
is a positive, how several positives are put together, what stands in the denominator, and how anchors are weighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.protocol import DROPPED, joint_batch


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


class ContrastiveLoss(nn.Module):
    """What the losses of the family share: a preset, a temperature, and what handlers ask of them.

    Args:
        preset: a name in :data:`PRESETS`.
        temperature: tau, above 0, typically 0.05 to 0.5; the paper takes 0.1.
        threshold: slices are mates if their groups differ by less; ``None``: if they are equal.

    Attributes:
        figures: of the last batch. ``chance`` is the loss if all embeddings coincided, as they do in a collapsed
            network; log(2b - 1) for NT-Xent, the mean of log(n / p) / p over anchors with p positives and n negatives
            for Eq. 2. ``negatives`` is how many an anchor had, on average; ``dropped_anchors`` the share of anchors
            that had no positive or no negative, and count in neither.

    Raises:
        InputError: at an unknown preset, or a temperature or threshold of 0 or less.
    """

    def __init__(self, preset: str = "ufc", temperature: float = 0.1, threshold: float | None = None) -> None:
        super().__init__()
        for name, value in (("temperature", temperature), ("threshold", threshold)):
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise InputError(f"{name} must be above 0, got {value!r}.")
        self.preset = _preset(preset)
        self.temperature = temperature
        self.threshold = threshold
        self.figures: dict[str, Tensor] = {}

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """The two halves of a network's output."""
        first, second = output.chunk(2)
        return first, second

    def reduced(self, similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """The mean :func:`anchor_losses` of valid anchors, of any set of keys; note the batch's figures."""
        valid = positive.any(dim=1) & negative.any(dim=1)
        share = valid.to(similarity.dtype) / valid.sum().clamp(min=1)
        losses = anchor_losses(similarity, positive, negative, self.preset)
        with torch.no_grad():
            collapsed = anchor_losses(torch.zeros_like(similarity), positive, negative, self.preset)
            negatives = share @ negative.sum(dim=1).to(share.dtype)
            self.figures = {"chance": share @ collapsed, "negatives": negatives, DROPPED: 1 - valid.float().mean()}
        # where no anchor is valid, a 0 that hangs on the graph: every rank of a distributed run must have gradients
        return share @ losses


class ClusterContrastiveLoss(ContrastiveLoss):
    r"""Contrastive loss in which slices of the same cluster are never pushed apart (Eq. 2 of the paper).

    .. math:: L = \frac{1}{2b} \sum_i \frac{1}{|P_i|} \Big( \log \sum_{k \in N_i} e^{s_{ik}}
              - \log \sum_{j \in P_i} e^{s_{ij}} \Big), \qquad s_{ij} = f_i \cdot f_j / \tau

    with P the features of the anchor's pseudo-label but itself and N those of the other pseudo-labels. Anchors without
    a negative (or without a positive) are left out of the mean. Values below zero are normal; values of different
    presets cannot be compared.

    What groups slices need not be a cluster: with partitions of the volume and ``fn_elim`` this is the global loss of
    GLCL (Chaitanya et al. 2020, G^D-), with positions, a threshold and ``supcon_out`` that of PCL (Zeng et al. 2021).

    Arguments are those of :class:`ContrastiveLoss`.

    Example:
        >>> loss = ClusterContrastiveLoss("ufc")
        >>> round(float(loss(torch.eye(4), torch.tensor([0, 1, 0, 1]))), 4)  # two images at right angles: log 2
        0.6931
    """

    takes_joint_batch = True

    def forward(self, embeddings: Tensor, groups: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (2b, F), of any length; rows i and i + b are the two views of image i. Of several ranks, each
                brings a part of the batch.
            groups: (2b,) the pseudo-label, partition or position of each row.

        Returns:
            A scalar, in float32 at least; 0, with gradients, if no anchor is valid.

        Raises:
            ValueError: at shapes other than these.
        """
        if embeddings.ndim != 2 or len(embeddings) % 2 or groups.shape != embeddings.shape[:1]:
            raise ValueError(
                f"expected embeddings (2b, F) and groups (2b,), got {tuple(embeddings.shape)} and {tuple(groups.shape)}"
            )
        embeddings, groups = joint_batch(embeddings, groups)
        positive, negative = pair_masks(groups, self.preset, self.threshold)
        with torch.autocast(embeddings.device.type, enabled=False):
            f = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            return self.reduced(f @ f.T / self.temperature, positive, negative)


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


def uses_groups(preset: str) -> bool:
    """Whether a preset looks at the groups at all."""
    chosen = _preset(preset)
    return chosen.positives == "cluster" or not chosen.repel_mates


def alike(groups: Tensor, others: Tensor, threshold: float | None = None) -> Tensor:
    """Which of ``others`` (m,) are of the same group as each of ``groups`` (n,): (n, m) bool.

    Args:
        groups: whole numbers, or positions.
        others: of the same kind.
        threshold: the difference below which two positions count as alike; ``None``: only equal ones do.
    """
    return groups[:, None] == others if threshold is None else (groups[:, None] - others).abs() < threshold


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise InputError(f"loss_preset must be one of {', '.join(PRESETS)}; got {name!r}.")
    return PRESETS[name]


def pair_masks(groups: Tensor, preset: Preset, threshold: float | None = None) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each row of a batch, (2b, 2b) bool; rows i and i + b are the views of image i."""
    n = len(groups)
    index = torch.arange(n, device=groups.device)
    itself = index[:, None] == index
    own_view = index[:, None] == (index + n // 2) % n
    # the two views of an image are mates whatever the pseudo-labels say
    mates = alike(groups, groups, threshold) | own_view | itself
    positive = mates & ~itself if preset.positives == "cluster" else own_view
    negative = ~(positive | itself) if preset.repel_mates else ~mates
    return positive | itself if preset.include_self else positive, negative


def _logsumexp(similarity: Tensor, mask: Tensor) -> Tensor:
    """Of the masked entries of each row, (rows, 1); 0 for rows without any, whose gradient would be NaN."""
    empty = ~mask.any(dim=1, keepdim=True)
    chosen = similarity.masked_fill(~(mask | empty), -torch.inf)
    return torch.logsumexp(chosen, dim=1, keepdim=True).masked_fill(empty, 0)
