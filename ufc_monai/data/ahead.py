"""Reading the next volume while this one is worked on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol


class Loader(Protocol):
    """What has a length and can be gone through, as PyTorch's ``DataLoader``."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class ReadAhead:
    """A loader whose next batch is made in a thread while the last one is used; batches and errors are the same.

    A volume is read and inflated beside the network, which a worker process would do as well, at the price of its
    memory and its start. MONAI's ``ThreadDataLoader`` ends in silence where reading fails.

    Args:
        loader: what makes the batches.

    Example:
        >>> list(ReadAhead([1, 2, 3]))
        [1, 2, 3]
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches, end = iter(self.loader), object()
        with ThreadPoolExecutor(1) as thread:
            ahead = thread.submit(next, batches, end)
            while (batch := ahead.result()) is not end:
                ahead = thread.submit(next, batches, end)
                yield batch
