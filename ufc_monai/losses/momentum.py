"""Losses against a momentum encoder: MoCo's queue of old keys, and BYOL, which has no negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ContrastiveLoss, alike

LARGEST_QUEUE = 4096
EMPTY = -1
"""The slice number of a place that no key has taken yet."""


class QueueContrastiveLoss(ContrastiveLoss):
    """The contrastive loss of MoCo (He et al. 2020; v2: Chen et al. 2020): anchors meet keys of earlier batches.

    An anchor's first positive is the key of its other view; everything else is in the queue: the last keys, each with
    the number of its slice and its group, in a ring of buffers that are in the state dict. Older keys of the very same
    slice are never negatives. Keys keep their groups, so that every preset of the family works against a queue:
    ``simclr`` is MoCo, ``ufc`` is MoCo guided by clusters.

    Args:
        preset: a name in :data:`~ufc_monai.losses.contrastive.PRESETS`, except ``ufc_printed``: an anchor is no key.
        temperature: tau, above 0.
        threshold: as in :class:`ContrastiveLoss`.
        size: keys in the queue, see :func:`queue_size`.
        embedding_size: length of a key.

    Raises:
        InputError: at a preset that a queue does not support, or as :class:`ContrastiveLoss`.
    """

    keys: Tensor
    slices: Tensor
    groups: Tensor
    place: Tensor

    def __init__(
        self,
        preset: str = "simclr",
        temperature: float = 0.1,
        threshold: float | None = None,
        *,
        size: int,
        embedding_size: int,
    ) -> None:
        super().__init__(preset, temperature, threshold)
        if self.preset.include_self:
            raise InputError(f"loss_preset {preset} counts the anchor among its keys; a queue has none. Take ufc.")
        if size < 1:
            raise InputError(f"queue_size must be 1 or more, got {size}.")
        self.register_buffer("keys", torch.zeros(size, embedding_size))
        self.register_buffer("slices", torch.full((size,), EMPTY))
        self.register_buffer("groups", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """Queries of the first views, keys of the second."""
        queries, keys = output
        return queries, keys

    def forward(self, embeddings: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """The mean loss of a batch, whose keys then enter the queue.

        Args:
            embeddings: queries and keys, (b, F) each, of unit length: row i of each is a view of image i.
            target: groups and slice numbers, (b,) or longer; the first b count.

        Returns:
            A scalar, in float32 at least; 0, with gradients, as long as the queue is empty.
        """
        wide = torch.promote_types(embeddings[0].dtype, torch.float32)
        queries, keys = (part.to(wide) for part in embeddings)
        groups, slices = (part[: len(queries)] for part in target)
        self.to(queries.device)
        with torch.autocast(queries.device.type, enabled=False):
            own, old = (queries * keys).sum(dim=1, keepdim=True), queries @ self.keys.to(queries.dtype, copy=True).T
            loss = self.reduced(torch.cat([own, old], dim=1) / self.temperature, *self._masks(groups, slices))
        self._push(keys, slices, groups)
        return loss

    @torch.no_grad()
    def _push(self, keys: Tensor, slices: Tensor, groups: Tensor) -> None:
        """Put a batch of keys (b, F) in the place of the oldest; slices and groups are (b,)."""
        keys, slices, groups = (part[-len(self.keys) :] for part in (keys, slices, groups))
        where = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.keys)
        self.keys[where] = keys.to(self.keys.dtype)
        self.slices[where] = slices
        self.groups[where] = groups.to(self.groups.dtype)
        self.place += len(keys)

    def _masks(self, groups: Tensor, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Positives and negatives of each anchor among (own key, queue), (b, 1 + size) bool."""
        known = self.slices != EMPTY
        itself = alike(slices, self.slices) & known
        mates = (alike(groups.double(), self.groups, self.threshold) & known) | itself
        own = torch.ones_like(slices, dtype=torch.bool)[:, None]
        positive = mates if self.preset.positives == "cluster" else torch.zeros_like(mates)
        negative = known & ~(itself if self.preset.repel_mates else mates)
        return torch.cat([own, positive], dim=1), torch.cat([~own, negative], dim=1)


class BootstrapLoss(nn.Module):
    """The loss of BYOL (Grill et al. 2020, Eq. 2): 2 - 2 cos(prediction of a view, target of the other), both ways.

    From 0 to 4. A network that has collapsed is at 0, too: look at the effective rank.
    """

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """The predictions of the two views."""
        first, second = output[0].chunk(2)
        return first, second

    def forward(self, embeddings: tuple[Tensor, Tensor], groups: Tensor | None = None) -> Tensor:
        """The mean loss of a batch.

        Args:
            embeddings: predictions and targets, (2b, F) each; row i of the one predicts row i of the other.
            groups: not looked at.
        """
        predictions, targets = embeddings
        with torch.autocast(predictions.device.type, enabled=False):
            return (2 - 2 * F.cosine_similarity(predictions, targets.detach(), dim=1)).mean()


def queue_size(n_slices: int, batch_size: int) -> int:
    """Keys in the queue: whole batches, at most half of the slices, else most slices meet an old key of themselves.

    Args:
        n_slices: slices that are trained on.
        batch_size: b.

    Returns:
        A multiple of ``batch_size``, 4096 or a little less at most.

    Raises:
        InputError: if half of the slices do not fill a batch.
    """
    size = min(LARGEST_QUEUE, n_slices // 2) // batch_size * batch_size
    if size == 0:
        raise InputError(
            f"a queue of keys may hold half of the {n_slices} slices, and that is less than a batch of {batch_size}: "
            "lower batch_size, or take a method without a queue (simclr)."
        )
    return size
