"""Handlers that write what a stage leaves behind: weights with their network.json, and features."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch import nn

from ufc_monai.artifacts.transfer import save_network
from ufc_monai.base.files import atomic_path, write_arrays
from ufc_monai.base.ranks import Reporter, gathered, is_first

logger = logging.getLogger(__name__)

NEVER = -1
"""MONAI's ``best_metric_epoch`` before the first validation."""


class WeightsSaver(Reporter):
    """Save ``model.pt`` and ``network.json``: at the best validation if there is one, else at the end.

    Args:
        ckpt_dir: folder of the two files.
        network: whose state dict is saved; those of several networks are put together.
        record: what travels with the weights: stage, architecture, preprocessing, labels, origin.
        evaluator: its key metric says which weights are best (larger is better); ``None`` keeps the last weights. An
            evaluator that never ran keeps the last weights, too, which a warning and the metric ``validation`` say.

    At the end the trainer's metrics hold the key metric of the weights that are kept, ``kept_epoch`` and ``kept_step``;
    those of the last validation are called ``last_<metric>``.
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

    def attach(self, engine: Engine) -> None:
        """Save weights of a trainer."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.COMPLETED, self._save_last)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._save_if_best)

    def _begin(self, engine: Engine) -> None:
        if self.evaluator is not None and engine.state.iteration == 0:  # else a resumed training knows the best
            self.evaluator.state.best_metric_epoch = NEVER

    def _save_if_best(self, evaluator: Engine) -> None:
        state = evaluator.state
        if state.best_metric_epoch == state.epoch:
            self._save({"epoch": state.epoch, state.key_metric_name: float(state.best_metric)})

    def _save_last(self, engine: Engine) -> None:
        validated = None if self.evaluator is None else self.evaluator.state
        if validated is not None and validated.best_metric_epoch != NEVER:
            kept, name = validated.best_metric_epoch, validated.key_metric_name
            engine.state.metrics |= {
                **{f"last_{name}": value for name, value in validated.metrics.items()},
                name: float(validated.best_metric),
                "kept_epoch": kept,
                "kept_step": kept * engine.state.epoch_length,
            }
            return
        self._save({"epoch": engine.state.epoch})
        if validated is not None:
            engine.state.metrics["validation"] = "none; the last weights are kept, whether or not they are the best"
            logger.warning("validation: %s", engine.state.metrics["validation"])

    def _save(self, chosen: Mapping[str, Any]) -> None:
        weights = {name: value for network in self.networks for name, value in network.state_dict().items()}
        save_network(self.ckpt_dir, weights, {**self.record, "chosen": dict(chosen)})


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
        parts = gathered((np.concatenate(self._features), self._ids))  # each rank's slices follow the rank's before
        if is_first():
            features, ids = np.concatenate([f for f, _ in parts]), [i for _, some in parts for i in some]
            with atomic_path(self.path) as temporary:
                write_arrays(temporary, {"features": features, "ids": ids})
