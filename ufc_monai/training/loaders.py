"""A training's loaders: one, or several that advance together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
