"""What a loss tells of the batch that it has just seen: handlers ask for this alone, never for a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

DROPPED = "dropped_anchors"
"""The figure of which 1 says that a batch taught nothing: no step is taken on it."""


class StructuralLoss(Protocol):
    """The loss of a method that compares two views of each image.

    It may have two attributes: ``figures``, see :func:`figures_of`; and ``takes_joint_batch``, true of a loss of
    embeddings (2b, F) and groups (2b,) that several ranks may compute of all their batches together.
    """

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """The embeddings of the first and of the second views, (b, F) each, in what the network has returned."""


def figures_of(loss: object) -> Mapping[str, Tensor]:
    """What a loss tells of its last batch in its attribute ``figures``; nothing, if it has none.

    Returns:
        Scalars on the batch's device. The log shows the mean of each over an epoch under its name.
    """
    found: Mapping[str, Tensor] = getattr(loss, "figures", {})
    return found
