"""The second phase of the contrastive auto-encoder: prototypes follow the codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ignite.engine import Engine

from ufc_monai.base.ranks import Handler


@dataclass(eq=False)
class PrototypeAverage(Handler):
    """Move the prototypes of a trainer's network behind each step, by :meth:`Prototypes.follow`.

    Each epoch's metrics say how many were anybody's, ``used_prototypes``, and what share of the codes fits another
    prototype better than the nearest one, ``not_nearest``.

    Args:
        momentum: what a prototype keeps of itself at a step, 0 to 1.
    """

    momentum: float

    def _epoch_started(self, engine: Engine) -> None:
        self._used = torch.zeros(len(engine.network.prototypes.vectors), dtype=torch.bool)
        self._not_nearest: list[torch.Tensor] = []

    def _iteration_completed(self, engine: Engine) -> None:
        z, prototypes = engine.state.output["pred"][3].detach(), engine.network.prototypes
        nearest = prototypes.nearest(z)
        chosen = prototypes.follow(z, self.momentum)
        self._used = self._used.to(chosen.device).index_fill(0, chosen, True)
        self._not_nearest.append((chosen != nearest).float().mean())

    def _epoch_completed(self, engine: Engine) -> None:
        engine.state.metrics["used_prototypes"] = int(self._used.sum())
        engine.state.metrics["not_nearest"] = float(torch.stack(self._not_nearest).mean())
