"""Where this process stands among those of a distributed run; alone, it is the first of one."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch.utils.data import Dataset, Subset

__all__ = ["Meeting", "first_rank", "is_first", "join", "leave", "local_device", "rank", "share_of", "world_size"]

PATIENCE = datetime.timedelta(hours=2)
"""How long ranks wait for each other: the first one validates and writes while the others wait."""


def local_device() -> torch.device:
    """This process's own GPU of the machine, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def join() -> None:
    """Join the group that ``torchrun`` has started, by NCCL on GPUs, by gloo on CPUs; all but the first fall silent."""
    if not dist.is_initialized():
        device = local_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    if not is_first():
        logging.disable(logging.WARNING)


def leave() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process writes files and says things."""
    return rank() == 0


@contextlib.contextmanager
def first_rank() -> Iterator[None]:
    """The first rank does it before all others, which then find what it has left on disk."""
    if not is_first():
        dist.barrier()
    yield
    if dist.is_initialized() and is_first():
        dist.barrier()


def share_of(dataset: Dataset[Any]) -> Subset[Any]:
    """This rank's part of a data set: one of as many stretches as there are ranks, in their order.

    Example:
        >>> list(share_of([1, 2, 3]))  # alone, all of it
        [1, 2, 3]
    """
    n: int = len(dataset)  # type: ignore[arg-type]
    start, end = (i * n // world_size() for i in (rank(), rank() + 1))
    return Subset(dataset, range(start, end))


class Meeting:
    """A handler at whose end all ranks have come to the end of a run, the first one's files being written."""

    def attach(self, engine: Engine) -> None:
        """Meet at the end of a trainer; list it last."""
        engine.add_event_handler(Events.COMPLETED, self._meet)

    def _meet(self, engine: Engine) -> None:
        if dist.is_initialized():
            dist.barrier()
