"""What handlers ask of a loss, never of its class; a loss over the batches of all ranks.

A loss that compares two views of each image has ``views(output)``: the embeddings of the first and of the second views,
(b, F) each, in what the network has returned. It may have ``figures``, see :func:`figures_of`, and
``takes_joint_batch``, true of a loss of embeddings (2b, F) and groups (2b,) that several ranks may compute of all their
batches together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from ufc_monai.base.errors import InputError

DROPPED = "dropped_anchors"
"""The figure of which 1 says that a batch taught nothing: no step is taken on it."""


def figures_of(loss: object) -> Mapping[str, Tensor]:
    """What a loss tells of its last batch in its attribute ``figures``; nothing, if it has none.

    Returns:
        Scalars on the batch's device, or vectors. The log shows the mean of each over an epoch under its name.
    """
    found: Mapping[str, Tensor] = getattr(loss, "figures", {})
    return found


def of_joint_batches(loss: nn.Module) -> nn.Module:
    """The same loss, if it is one that ranks compute of their joint batch.

    Raises:
        InputError: at a loss whose negatives do not come from the batch.
    """
    if not getattr(loss, "takes_joint_batch", False):
        raise InputError(
            f"multi_gpu_train.json gathers the batches of all ranks, which {type(loss).__name__} does not support. "
            "Train this method on one device."
        )
    return loss


def joint_batch(embeddings: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """The batches of all ranks as one: each rank's slices are contrasted with those of every other.

    Embeddings are gathered with their gradient, groups beside them, and every rank computes the whole loss, so that the
    mean is taken over the valid anchors of all ranks. Gathering sums the gradients of the ranks' equal losses, and
    ``DistributedDataParallel`` averages those of the weights: a step is that of one process with the joint batch.

    Args:
        embeddings: of this rank, (2b, d); rows i and i + b are the two views of one slice. b is that of every rank.
        groups: what groups the slices, (2b,).

    Returns:
        Both of W ranks, (2 W b, ...); alone, what came.
    """
    if not dist.is_initialized():
        return embeddings, groups
    of_ranks = [torch.empty_like(groups) for _ in range(dist.get_world_size())]
    dist.all_gather(of_ranks, groups)
    return _views_first(all_gather(embeddings)), _views_first(of_ranks)  # type: ignore[no-untyped-call]


def _views_first(parts: Iterable[Tensor]) -> Tensor:
    """The first views of all ranks, then the second ones in the same order."""
    return torch.cat([half for halves in zip(*(part.chunk(2) for part in parts), strict=True) for half in halves])
