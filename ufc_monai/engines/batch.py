"""From a collated batch to the network's input and the loss's target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["PrepareBatch"]


class PrepareBatch:
    """A ``prepare_batch`` for MONAI's engines: move to the device, transform the batch there, pick two keys.

    Args:
        image_key: what goes into the network.
        target_key: what the loss compares with; the image itself for an auto-encoder.
        transform: a batch transform such as :class:`~ufc_monai.transforms.TwoViewsd`.
    """

    def __init__(
        self,
        image_key: str = "image",
        target_key: str = "label",
        transform: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None,
    ) -> None:
        self.image_key = image_key
        self.target_key = target_key
        self.transform = transform

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return ``(image, target)`` on ``device``."""
        keys = {self.image_key, self.target_key}
        moved = {key: torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in keys}
        ready = self.transform(moved) if self.transform else moved
        return ready[self.image_key], ready[self.target_key]
