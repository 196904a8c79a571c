"""A training's loaders, one or several that advance together, and what becomes of their batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import ensure_tuple
from torch import Tensor
from torch.utils.data import DataLoader

from ufc_monai.base.errors import InputError


class CombinedLoader:
    """Several loaders as one, whose batch is a dictionary with a batch of each, by name.

    An epoch is that of the first loader. All begin anew with it; the others are cut off when it ends, and begin anew
    when they run out before. Give each a sampler with a generator: MONAI tells a ``DistributedSampler`` the epoch only
    where it is the trainer's own.

    Args:
        loaders: by name, such as ``labelled`` and ``unlabelled``.

    Raises:
        InputError: if one of them has no batch.
    """

    def __init__(self, loaders: Mapping[str, DataLoader[Any]]) -> None:
        if empty := [name for name, loader in loaders.items() if len(loader) == 0]:
            raise InputError(f"the loader {empty[0]} has no batch: it needs more volumes or a smaller batch_size.")
        self.loaders = dict(loaders)

    def __len__(self) -> int:
        return len(next(iter(self.loaders.values())))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        first, *others = self.loaders.values()
        for batches in zip(first, *map(_endless, others), strict=False):
            yield dict(zip(self.loaders, batches, strict=True))


def loaders_of(loader: DataLoader[Any] | CombinedLoader) -> list[DataLoader[Any]]:
    """The loaders that one of a trainer is made of."""
    return list(loader.loaders.values()) if isinstance(loader, CombinedLoader) else [loader]


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


@dataclass
class PrepareBatch:
    """A ``prepare_batch`` for MONAI's engines: move to the device, transform the batch there, pick two keys.

    Args:
        image_key: what goes into the network.
        target_key: what the loss compares with; the image itself for an auto-encoder. Several keys give a tuple.
        transform: a batch transform such as :class:`~ufc_monai.transforms.batch.TwoViewsd`, on images in [0, 1].
        normalise: last, on the image alone; such as :class:`~ufc_monai.transforms.chain.Standardise`.
    """

    image_key: str = "image"
    target_key: str | Sequence[str] = "label"
    transform: Callable[[dict[str, Tensor]], Mapping[str, Tensor]] | None = None
    normalise: Callable[[Tensor], Tensor] | None = None

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, Any]:
        """Return ``(image, target)`` on ``device``."""
        targets = ensure_tuple(self.target_key)
        keys = {self.image_key, *targets}
        # others are made by the transform
        found = keys & batch.keys()
        moved = {key: torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking) for key in found}
        ready = dict(self.transform(moved) if self.transform else moved)
        if self.normalise is not None:
            ready[self.image_key] = self.normalise(ready[self.image_key])
        target = tuple(ready[key] for key in targets)
        return ready[self.image_key], target[0] if isinstance(self.target_key, str) else target


@dataclass
class PrepareCombinedBatch:
    """A ``prepare_batch`` for the batches of a :class:`~ufc_monai.training.loaders.CombinedLoader`.

    Args:
        parts: how the batch of each loader is prepared, by name.
    """

    parts: Mapping[str, PrepareBatch]

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | str, non_blocking: bool = False
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the images of all parts behind each other, and the target of each by name, on ``device``."""
        ready = {name: prepare(batch[name], device, non_blocking) for name, prepare in self.parts.items()}
        return torch.cat([image for image, _ in ready.values()]), {name: target for name, (_, target) in ready.items()}
