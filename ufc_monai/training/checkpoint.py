"""``checkpoint.pt``: a training that was killed goes on from it as if nothing had happened, bit by bit on a CPU."""

from __future__ import annotations

import json
import logging
import os
import random
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.handlers import Checkpoint
from torch.utils.data import DataLoader

from ufc_monai.artifacts.record import RunRecord
from ufc_monai.artifacts.transfer import save_tensors
from ufc_monai.base.errors import InputError
from ufc_monai.base.ranks import Handler, check_wrapped, gathered, is_first, rank, world_size

logger = logging.getLogger(__name__)

KEPT = ("metrics", "ema_momentum")
"""What of a trainer's state ignite would leave behind; ``EMAHandler`` keeps its momentum there."""


@dataclass(eq=False)
class TrainingCheckpoint(Handler):
    """Save everything that a training is resumed from, and resume it.

    It is written when the loader has run out and the next epoch has drawn nothing yet: the one moment at which nothing
    of an epoch is under way. List it first, so that the other handlers find the resumed trainer.

    Args:
        path: the file, in the folder of the weights; its name begins with ``checkpoint``.
        parts: objects with a ``state_dict``, a ``generator`` or both, by name. Added are the trainer's own state, its
            GradScaler, and the random states of Python, NumPy, PyTorch, and the loader. Random states, those of the
            parts' generators too, are saved for each rank; all else is the first rank's, and everybody's.
        record: of the run; a checkpoint of another one is refused.
        resume: from the file if it is there.
        seconds: between two saves, at the least; the end of the training is saved always.
        evaluator: whose best and last metrics are kept, too.

    Raises:
        InputError: when training starts, if the file cannot be read, is of another run or of another number of ranks;
            or if the ranks train a network each of its own.
    """

    path: str | os.PathLike[str]
    parts: Mapping[str, Any]
    record: RunRecord
    resume: bool = False
    seconds: float = 60.0
    evaluator: Engine | None = None

    def _started(self, engine: Engine) -> None:
        check_wrapped(engine.network)
        engine.state_dict_user_keys[:] = [key for key in KEPT if hasattr(engine.state, key)]
        path = Path(self.path)
        for half in path.parent.glob(f".{path.name}.*"):  # what a kill during a save has left
            half.unlink(missing_ok=True)  # every rank looks
        self._saved = monotonic()
        if self.resume and path.is_file():
            self._load(engine, path)
        elif self.resume:
            logger.info("there is no %s: the training starts from the beginning", path)

    def _load(self, engine: Engine, path: Path) -> None:
        try:
            with zipfile.ZipFile(path) as file:  # PyTorch compares no checksum
                if damaged := file.testzip():
                    raise zipfile.BadZipFile(damaged)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
            differences = self.record.differences(json.loads(checkpoint.pop("run")))
            ranks: list[dict[str, Any]] = checkpoint.pop("ranks")
            self.record.began -= checkpoint.pop("seconds", 0.0)
        except Exception as e:
            raise InputError(f"resume: {path} cannot be read ({type(e).__name__}). Delete it to begin anew.") from e
        if differences:
            raise InputError(
                f"resume: {path} is of another run (differs in {', '.join(differences[:4])}). Pass the settings "
                "of that run, or begin anew with another --output_dir and --ckpt_dir."
            )
        if len(ranks) != world_size():
            raise InputError(
                f"resume: {path} was written on {len(ranks)} rank(s), and now there are {world_size()}. Start as "
                "many as before, or begin anew with another --output_dir and --ckpt_dir."
            )
        states = _RandomStates(engine.data_loader, self.parts.values())
        own = ranks[rank()]
        if len(own.get("generators", ())) != len(states.generators):
            raise InputError(f"resume: {path} was written by another version. Delete it to begin anew.")
        # random states last: a loss may keep its generator's place, too
        Checkpoint.load_objects({**self._shared(engine), "random": states}, {**checkpoint, "random": own})
        logger.info("resumes after epoch %d of %d (%s)", engine.state.epoch, engine.state.max_epochs, path)

    def _dataloader_stop_iteration(self, engine: Engine) -> None:
        due = monotonic() - self._saved >= self.seconds
        if gathered(due)[0]:  # the first rank's clock is everybody's: all ranks take part in a save
            self._completed(engine)

    def _completed(self, engine: Engine) -> None:
        ranks = gathered(_RandomStates(engine.data_loader, self.parts.values()).state_dict())
        self._saved = monotonic()
        if not is_first():
            return
        states = {name: part.state_dict() for name, part in self._shared(engine).items()}
        states["trainer"] = dict(states["trainer"])
        of_run = {"run": json.dumps(self.record.identity), "seconds": monotonic() - self.record.began}
        save_tensors(self.path, {**states, "ranks": ranks, **of_run})

    def _shared(self, engine: Engine) -> dict[str, Any]:
        """What is the same on all ranks."""
        shared = {name: part for name, part in self.parts.items() if hasattr(part, "state_dict")}
        added = {
            "trainer": engine,
            "scaler": engine.scaler,
            "evaluator": self.evaluator and _Validation(self.evaluator),
        }
        return shared | {name: part for name, part in added.items() if part is not None}


class _Validation:
    """What a trainer takes from its evaluator: the last metrics, the best one and its epoch."""

    def __init__(self, evaluator: Engine) -> None:
        self.state = evaluator.state

    def state_dict(self) -> dict[str, Any]:
        metrics = {name: float(value) for name, value in self.state.metrics.items()}
        return {"metrics": metrics, "best": float(self.state.best_metric), "epoch": int(self.state.best_metric_epoch)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state.metrics = dict(state["metrics"])
        self.state.best_metric, self.state.best_metric_epoch = state["best"], state["epoch"]


class _RandomStates:
    """All random states that a training draws from, in types that load safely."""

    def __init__(self, loader: DataLoader[Any], parts: Iterable[Any]) -> None:
        found = (getattr(owner, "generator", None) for owner in (loader, loader.sampler, *parts))
        self.generators = [generator for generator in found if generator is not None]

    def state_dict(self) -> dict[str, Any]:
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002, it is the global one that has to be kept
        return {
            "python": random.getstate(),
            "numpy": (kind, np.asarray(keys).tolist(), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
            "generators": [generator.get_state() for generator in self.generators],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        torch.set_rng_state(state["torch"])
        if len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        for generator, place in zip(self.generators, state["generators"], strict=True):
            generator.set_state(place)
