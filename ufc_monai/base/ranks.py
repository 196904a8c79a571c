"""This process's place among the ranks of a distributed run; alone, it is the first of one."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset, Subset

from ufc_monai.base.errors import InputError

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=2)
"""How long ranks wait for each other: the first one validates and writes while the others wait."""


def local_device() -> torch.device:
    """This process's own GPU of the machine, or the CPU without one."""
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
        dist.barrier()  # a thread of gloo's that still tidies up would wait for Python, and Python for it, for ever
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


def gathered(part: T) -> list[T]:
    """What every rank brings, in the order of ranks; all ranks call it, and all get it."""
    if not dist.is_initialized():
        return [part]
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, part)
    return parts


def check_wrapped(*networks: nn.Module) -> None:
    """Refuse to train networks whose gradients are not averaged over the ranks: their weights would diverge.

    Raises:
        InputError: if one of them is not wrapped in ``DistributedDataParallel``.
    """
    for network in networks:
        if world_size() > 1 and not isinstance(network, DistributedDataParallel):
            raise InputError(
                f"multi_gpu_train.json: this method also trains a {type(network).__name__}, whose gradients are not "
                "averaged over the ranks. Train it on one device."
            )


class Handler:
    """Base of handlers whose methods are named after ignite's events: ``_epoch_completed`` acts at EPOCH_COMPLETED."""

    def attach(self, engine: Engine) -> None:
        """Have an engine call the methods."""
        for event in Events:
            if method := getattr(self, f"_{event.name.lower()}", None):
                engine.add_event_handler(event, method)


class Reporter(Handler):
    """Base of the handlers that write files or report figures: they act on the first rank alone."""


def on_this_rank(handlers: Sequence[object]) -> list[object]:
    """The handlers that act on this rank: on the first all of them, on the others those that take part in the training.

    Args:
        handlers: of an engine, in their order; those that report are :class:`Reporter`, or known from MONAI and ignite.
    """
    from ignite.handlers import ProgressBar  # slow to import, and needed here alone
    from monai.handlers import MLFlowHandler, TensorBoardHandler

    report = (Reporter, ProgressBar, TensorBoardHandler, MLFlowHandler)
    return [handler for handler in handlers if is_first() or not isinstance(handler, report)]


class Meeting(Handler):
    """A handler that lets all ranks wait at the end of a run until the first has written its files; list it last."""

    def _completed(self, engine: Engine) -> None:
        if dist.is_initialized():
            dist.barrier()
