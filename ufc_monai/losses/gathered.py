"""A contrastive loss over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from ufc_monai.base.errors import InputError
from ufc_monai.losses.protocol import figures_of


class GatheredLoss(nn.Module):
    """The loss of the joint batch of all ranks: each rank's slices are contrasted with those of every other.

    Embeddings are gathered with their gradient, groups beside them, and every rank computes the whole loss, so that the
    mean is taken over the valid anchors of all ranks. Gathering sums the gradients of the ranks' equal losses, and
    ``DistributedDataParallel`` averages those of the weights: a step is that of one process with the joint batch.

    Args:
        loss: of embeddings (2b, d) and groups (2b,).

    Raises:
        InputError: at a loss whose negatives do not come from the batch.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        if not getattr(loss, "takes_joint_batch", False):
            raise InputError(
                f"multi_gpu_train.json gathers the batches of all ranks, which {type(loss).__name__} does not know. "
                "Train this method on one device."
            )
        self.loss: Any = loss

    @property
    def figures(self) -> Mapping[str, Tensor]:
        """Those of the joint batch."""
        return figures_of(self.loss)

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """Those of this rank."""
        found: tuple[Tensor, Tensor] = self.loss.views(output)
        return found

    def forward(self, embedding: Tensor, group: Tensor) -> Tensor:
        """The loss of the joint batch.

        Args:
            embedding: of this rank, (2b, d); rows i and i + b are the two views of one slice. b is that of every rank.
            group: what groups the slices, (2b,).
        """
        if not dist.is_initialized():
            alone: Tensor = self.loss(embedding, group)
            return alone
        groups = [torch.empty_like(group) for _ in range(dist.get_world_size())]
        dist.all_gather(groups, group)
        embeddings = list(all_gather(embedding))  # type: ignore[no-untyped-call]
        joint: Tensor = self.loss(_views_first(embeddings), _views_first(groups))
        return joint


def _views_first(parts: list[Tensor]) -> Tensor:
    """(2b, ...) of each rank to (2 W b, ...): the first views of all ranks, then the second ones in the same order."""
    halves = [part.chunk(2) for part in parts]
    return torch.cat([first for first, _ in halves] + [second for _, second in halves])
