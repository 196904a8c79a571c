"""The course of self-training: when a round is due, who the teacher is, and what happens if it fails."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ufc_monai.artifacts.served import weights_digest
from ufc_monai.base.ranks import Handler, first_rank, is_first
from ufc_monai.data.samplers import PartnerSampler
from ufc_monai.data.store import StoreEntry
from ufc_monai.self_training.choose import Choice, Predicted, predicted
from ufc_monai.self_training.rounds import Round, RoundWriter, remove_volumes
from ufc_monai.self_training.slices import JoinedSlices

logger = logging.getLogger(__name__)
GIVEN_UP = "given up, more than half of the structures had collapsed; trained anew without them"
"""What a run's record says of it."""


def averaged_copy(network: nn.Module, decay: float = 0.99) -> AveragedModel:
    """The exponential moving average of a network's weights and of its batch norms' statistics.

    Args:
        network: that learns.
        decay: the share of the average that stays at each step, in [0, 1); less in the first steps, so that the random
            weights of the beginning are soon forgotten.
    """

    def average(averaged: Any, current: Any, steps: int | Tensor) -> None:
        weight = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:  # how many batches a batch norm has seen
            torch._foreach_copy_(averaged, current)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


@dataclass(eq=False)
class SelfTraining(Handler):
    """Give the unlabelled slices labels by a teacher, anew every few steps, at the beginning of an epoch.

    The teacher is the moving average of the network. A round is complete on disk before the checkpoint that names it,
    and a resumed training reads it instead of predicting anew.

    If more than half of the structures collapse, nothing is learned from predictions any more, and the training begins
    anew, at full length, from where it began.

    Args:
        folder: of the rounds.
        slices: of the training, labelled and unlabelled.
        sampler: of these; each labelled slice is followed by an unlabelled partner once there is a round.
        trained: ``network``, ``optimizer``, ``lr_scheduler``: what a new beginning sets back.
        teacher: the average of the network, see :func:`averaged_copy`.
        inferer: maps slices to logits.
        names: of the classes, background first.
        connected: classes of one piece.
        warm_up: steps on labelled slices alone before the first round.
        interval: steps from round to round.
        choice: how sure a prediction must be.
        slices_at_once: that the teacher sees.
        normalise: what a batch of slices goes through on its way into the network.
        data_sha256: of the unlabelled images.
    """

    folder: str | os.PathLike[str]
    slices: JoinedSlices
    sampler: PartnerSampler
    trained: Mapping[str, Any]
    teacher: AveragedModel
    inferer: Inferer
    names: Sequence[str]
    connected: Sequence[int]
    warm_up: int = 600
    interval: int = 300
    choice: Choice = field(default_factory=Choice)
    slices_at_once: int = 16
    normalise: Callable[[Tensor], Tensor] | None = None
    data_sha256: Sequence[str] = ()
    evaluator: Engine | None = None
    given_up: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.last_round: Round | None = None
        self._beginning: dict[str, Any] = {}
        self._named = 0, 0
        """The rounds that the last two checkpoints have named."""

    def _started(self, engine: Engine) -> None:
        if self._beginning:  # which a checkpoint has brought
            return
        self._beginning = {name: copy.deepcopy(part.state_dict()) for name, part in self.trained.items()}
        if is_first():
            shutil.rmtree(self.folder, ignore_errors=True)  # the rounds of another training
        if engine.state.max_epochs * engine.state.epoch_length <= self.warm_up:
            logger.warning("self-training: the training ends before its warm-up of %d steps", self.warm_up)

    def _iteration_completed(self, engine: Engine) -> None:
        self.teacher.update_parameters(self.trained["network"])

    def _epoch_started(self, engine: Engine) -> None:
        number, step = 1, engine.state.iteration
        if self.last_round:
            number += self.last_round.content["round"]
        made = self.last_round and self.last_round.content["step"] == step  # before the checkpoint that brought it
        if self.given_up or made or step < self.warm_up + (number - 1) * self.interval:
            return
        folder = Path(self.folder, f"round_{number}")
        with first_rank():
            if is_first():
                self._write(folder, engine)
            found = Round.open(folder)
        off = [self.names[c] for c in found.content["off"]]
        if found.content["collapsed"]:
            self._begin_anew(engine, off)
            return
        self._open(found)
        if off:
            logger.warning("self-training: %s: not learned from predictions in round %d", ", ".join(off), number)

    def _begin_anew(self, engine: Engine, off: Sequence[str]) -> None:
        logger.warning(
            "self-training is given up: the predictions of %s have collapsed. The training begins anew without the "
            "unlabelled scans.",
            ", ".join(off),
        )
        self.given_up = True
        self.sampler.partner_weights = torch.zeros(len(self.slices))
        engine.state.metrics.clear()
        for name, part in self.trained.items():
            part.load_state_dict(copy.deepcopy(self._beginning[name]))
        engine.state.epoch, engine.state.iteration = 1, 0
        if self.evaluator is not None:
            self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = -1, -1

    def _completed(self, engine: Engine) -> None:
        rounds = self.last_round.content["round"] if self.last_round else 0
        engine.state.metrics["self_training"] = GIVEN_UP if self.given_up else f"{rounds} rounds"

    def _write(self, folder: Path, engine: Engine) -> None:
        for old in folder.parent.glob("round_*"):
            if int(old.name.rpartition("_")[2]) < self._named[0]:  # no checkpoint comes back to them
                remove_volumes(old)
        counts = self.slices.labelled.class_counts(len(self.names)).sum(0).numpy().astype(np.float64)
        about = {
            "round": int(folder.name.rpartition("_")[2]),
            "step": engine.state.iteration,
            "names": list(self.names),
            "teacher_sha256": weights_digest(self.teacher.module.state_dict(), self.teacher.module),
            "data_sha256": list(self.data_sha256),
        }
        writer = RoundWriter(
            folder, self.slices.unlabelled.entries, self.choice, counts / counts.sum(), self.last_round
        )
        writer.write(self._predict, about)

    @torch.inference_mode()
    def _predict(self, volume: StoreEntry) -> Predicted:
        device = next(self.teacher.parameters()).device
        self.teacher.eval()  # with the averaged statistics of its batch norms
        parts = []
        for images in torch.split(torch.from_numpy(volume.array("image").astype(np.float32)), self.slices_at_once):
            seen = images.to(device)
            parts.append(self.inferer(self.normalise(seen) if self.normalise else seen, self.teacher.module))
        return predicted(torch.cat(parts).permute(1, 2, 3, 0), self.connected)

    def _open(self, found: Round) -> None:
        self.last_round = found
        self.slices.open_round(found)
        self.sampler.partner_weights = self.slices.foreground_weights(len(self.names))[1]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint: the teacher, which round is open, and where the training began."""
        name, sha256 = (self.last_round.folder.name, self.last_round.sha256) if self.last_round else (None, None)
        self._named = self._named[1], self.last_round.content["round"] if self.last_round else 0
        state = {"round": name, "sha256": sha256, "given_up": self.given_up, "beginning": self._beginning}
        return {**state, "teacher": self.teacher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict`` was taken.

        Raises:
            InputError: if the round is gone or has changed.
        """
        self.teacher.load_state_dict(state["teacher"])
        self.given_up, self._beginning = state["given_up"], dict(state["beginning"])
        if state["round"] is not None and not self.given_up:
            self._open(Round.open(Path(self.folder, state["round"]), state["sha256"]))
