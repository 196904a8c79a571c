"""What becomes of a loader's batch before network and loss see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import ensure_tuple
from torch import Tensor


@dataclass
class PrepareBatch:
    """A ``prepare_batch`` for MONAI's engines: move to the device, transform the batch there, pick image and target.

    Args:
        target_key: what the loss compares with; the image itself for an auto-encoder. Several keys give a tuple.
        transform: a batch transform such as :class:`~ufc_monai.transforms.batch.TwoViewsd`, on images in [0, 1].
        normalise: last, on the image alone; such as :class:`~ufc_monai.transforms.chain.Standardise`.
    """

    target_key: str | Sequence[str] = "label"
    transform: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None
    normalise: Callable[[Tensor], Tensor] | None = None

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, Any]:
        """Return ``(image, target)`` on ``device``."""
        targets = ensure_tuple(self.target_key)
        keys = {"image", *targets}
        # others are made by the transform
        found = keys & batch.keys()
        moved = {key: torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in found}
        ready = dict(self.transform(moved) if self.transform else moved)
        if self.normalise is not None:
            ready["image"] = self.normalise(ready["image"])
        target = tuple(ready[key] for key in targets)
        return ready["image"], target[0] if isinstance(self.target_key, str) else target
