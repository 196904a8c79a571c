"""Handlers that write what a stage leaves behind: weights with their network.json, and features."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine
from torch import nn

from ufc_monai.artifacts.transfer import save_network
from ufc_monai.base.files import atomic_path, found_json, write_arrays
from ufc_monai.base.ranks import Handler, Reporter, gathered, is_first
from ufc_monai.base.spool import Spool

logger = logging.getLogger(__name__)

NEVER = -1
"""MONAI's ``best_metric_epoch`` before the first validation."""


@dataclass(eq=False)
class WeightsSaver(Reporter):
    """Save ``model.pt`` and ``network.json``: at the best validation if there is one, else at the end.

    List it behind the handler that validates. At the end the trainer's metrics hold the key metric of the weights that
    are kept, ``kept_epoch`` and ``kept_step``; those of the last validation are called ``last_<metric>``.

    Args:
        ckpt_dir: folder of the two files.
        network: whose state dict is saved; those of several networks are put together.
        record: what travels with the weights: stage, architecture, preprocessing, labels, origin.
        evaluator: its key metric says which weights are best (larger is better); ``None`` keeps the last weights. An
            evaluator that never ran keeps the last weights, too, which a warning and the metric ``validation`` say.
    """

    ckpt_dir: str | os.PathLike[str]
    network: nn.Module | list[nn.Module]
    record: Mapping[str, Any]
    evaluator: Engine | None = None

    def _started(self, engine: Engine) -> None:
        if self.evaluator is None:
            return
        chosen = found_json(Path(self.ckpt_dir) / "network.json", "ckpt_dir").get("chosen", {}).get("epoch", NEVER)
        # a resumed training knows the best, unless weights of an epoch that comes again have taken its place since
        if engine.state.iteration == 0 or chosen > engine.state.epoch:
            self.evaluator.state.best_metric_epoch = NEVER

    def _epoch_completed(self, engine: Engine) -> None:
        validated = self.evaluator and self.evaluator.state
        if validated and validated.best_metric_epoch == engine.state.epoch:
            self._save({"epoch": engine.state.epoch, validated.key_metric_name: float(validated.best_metric)})

    def _completed(self, engine: Engine) -> None:
        metrics, validated = engine.state.metrics, self.evaluator and self.evaluator.state
        if validated and validated.best_metric_epoch != NEVER:
            kept = validated.best_metric_epoch
            metrics |= {f"last_{name}": value for name, value in validated.metrics.items()}
            metrics |= {validated.key_metric_name: float(validated.best_metric)}
            metrics |= {"kept_epoch": kept, "kept_step": kept * engine.state.epoch_length}
            return
        self._save({"epoch": engine.state.epoch})
        if validated:
            metrics["validation"] = "none; the last weights are kept, whether or not they are the best"
            logger.warning("validation: %s", metrics["validation"])

    def _save(self, chosen: Mapping[str, Any]) -> None:
        networks = self.network if isinstance(self.network, list) else [self.network]
        weights = {name: value for network in networks for name, value in network.state_dict().items()}
        save_network(self.ckpt_dir, weights, {**self.record, "chosen": chosen})


@dataclass(eq=False)
class FeatureSaver(Handler):
    """Stream an evaluator's output for every slice, not decollated, to disk, and write ``features.npz``.

    The file holds ``features`` (N, D) float32 and ``ids`` (N,), the slice ids in the same order.

    Args:
        path: the file to write.
    """

    path: str | os.PathLike[str]

    def _started(self, engine: Engine) -> None:
        self._features = Spool(Path(self.path).parent)
        self._ids: list[str] = []

    def _iteration_completed(self, engine: Engine) -> None:
        self._features.add(engine.state.output["pred"].float().cpu().numpy())
        self._ids += engine.state.batch["id"]

    def _completed(self, engine: Engine) -> None:
        parts = gathered((self._features.rows(), self._ids))  # each rank's slices follow the rank's before
        if is_first():
            one, *others = (features for features, _ in parts)
            features, ids = np.concatenate([one, *others]) if others else one, [i for _, some in parts for i in some]
            with atomic_path(self.path) as temporary:
                write_arrays(temporary, {"features": features, "ids": ids})
