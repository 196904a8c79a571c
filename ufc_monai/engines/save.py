"""Handlers that write what a stage leaves behind: weights with their network.json, and features."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from ufc_monai.files import atomic_path
from ufc_monai.transfer import save_network

__all__ = ["FeatureSaver", "TrainingCheckpoint", "WeightsSaver"]


class WeightsSaver:
    """Save ``model.pt`` and ``network.json``: at the best validation if there is one, else at the end.

    Args:
        ckpt_dir: folder of the two files.
        network: whose state dict is saved; those of several networks are put together.
        record: what travels with the weights: stage, architecture, preprocessing, labels, origin.
        evaluator: its key metric says which weights are best (larger is better); ``None`` keeps the last weights. An
            evaluator that never ran keeps the last weights, too.
    """

    def __init__(
        self,
        ckpt_dir: str | os.PathLike[str],
        network: nn.Module | list[nn.Module],
        record: Mapping[str, Any],
        evaluator: Engine | None = None,
    ) -> None:
        self.ckpt_dir = ckpt_dir
        self.networks = network if isinstance(network, list) else [network]
        self.record = dict(record)
        self.evaluator = evaluator
        self.best: float | None = None
        self._epoch = 0

    def attach(self, engine: Engine) -> None:
        """Save weights of a trainer."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_STARTED, self._note_epoch)
        engine.add_event_handler(Events.COMPLETED, self._save_last)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._save_if_best)

    def _begin(self, engine: Engine) -> None:
        self.best = None

    def _note_epoch(self, engine: Engine) -> None:
        self._epoch = engine.state.epoch

    def _save_if_best(self, evaluator: Engine) -> None:
        value = float(evaluator.state.metrics[evaluator.state.key_metric_name])
        if self.best is None or value > self.best:
            self.best = value
            self._save({"epoch": self._epoch, evaluator.state.key_metric_name: value})

    def _save_last(self, engine: Engine) -> None:
        if self.best is None:
            self._save({"epoch": engine.state.epoch})

    def _save(self, chosen: Mapping[str, Any]) -> None:
        weights = {name: value for network in self.networks for name, value in network.state_dict().items()}
        save_network(self.ckpt_dir, weights, {**self.record, "chosen": dict(chosen)})


class TrainingCheckpoint:
    """Save ``checkpoint.pt``: everything that training goes on from, head and optimiser included.

    Args:
        ckpt_dir: folder of the file.
        parts: objects with a ``state_dict``, by name; the trainer's own state is added as ``trainer``.
        interval: epochs between two saves; the last epoch is saved always.
    """

    def __init__(self, ckpt_dir: str | os.PathLike[str], parts: Mapping[str, Any], interval: int = 10) -> None:
        self.path = Path(ckpt_dir) / "checkpoint.pt"
        self.parts = dict(parts)
        self.interval = interval

    def attach(self, engine: Engine) -> None:
        """Save a trainer."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval) | Events.COMPLETED, self._save)

    def _save(self, engine: Engine) -> None:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_path(self.path) as temporary:
            torch.save({**states, "trainer": dict(engine.state_dict()), "rng": torch.get_rng_state()}, temporary)


class FeatureSaver:
    """Collect the network's output for every slice and write ``features.npz``.

    The file holds ``features`` (N, D) float32 and ``ids`` (N,), the slice ids in the same order.

    Args:
        path: the file to write.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._features: list[np.ndarray[Any, Any]] = []
        self._ids: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Collect from an evaluator that does not decollate."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        self._features, self._ids = [], []

    def _add(self, engine: Engine) -> None:
        self._features.append(engine.state.output["pred"].float().cpu().numpy())
        self._ids += engine.state.batch["id"]

    def _write(self, engine: Engine) -> None:
        with atomic_path(self.path) as temporary:
            np.savez(temporary, features=np.concatenate(self._features), ids=np.array(self._ids))
