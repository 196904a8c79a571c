"""The picture of a round: what the teacher says of the volumes that it is surest and least sure of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ignite.engine import Engine

from ufc_monai.base.ranks import Reporter
from ufc_monai.self_training.handler import SelfTraining
from ufc_monai.transforms.labels import IGNORE

if TYPE_CHECKING:
    from ufc_monai.report.slices import Overlay


@dataclass(eq=False)
class RoundPicture(Reporter):
    """Draw the volumes on which the last two rounds agree most and least, to ``unlabelled.png``.

    Args:
        output_dir: folder of the picture.
        training: whose rounds.
    """

    output_dir: str | os.PathLike[str]
    training: SelfTraining

    def _completed(self, engine: Engine) -> None:
        last = self.training.last_round
        if last is None or self.training.given_up:
            return
        rows, n = last.content["volumes"], len(self._names)
        agreed = np.array([row.get("agreement", [None] * (n + 1))[1:] for row in rows], dtype=float)
        known = [k for k in range(len(rows)) if np.isfinite(agreed[k]).any()]
        if not known:  # after one round there is nothing to compare
            return
        means = {k: float(np.nanmean(agreed[k])) for k in known}
        order = sorted(known, key=means.__getitem__)
        shown = {order[0]: "least stable", order[-1]: "most stable"}
        from ufc_monai.report.slices import save_overlays

        overlays = [
            self._overlay(k, f"{shown[k]}: {rows[k]['image']}, agreement {means[k]:.2f}") for k in reversed(shown)
        ]
        save_overlays(Path(self.output_dir, "unlabelled.png"), overlays, self._names, ("predicted", "learned"))

    @property
    def _names(self) -> list[str]:
        return list(self.training.names[1:])

    def _overlay(self, k: int, title: str) -> Overlay:
        from ufc_monai.report.slices import Overlay

        volume, labels = self.training.slices.unlabelled.entries[k], self.training.slices.round_entries[k]
        predicted = labels.array("predicted")
        z = int((predicted > 0).sum(axis=(1, 2, 3)).argmax())
        learned = labels.array("label")[z, 0]
        image: Any = np.moveaxis(volume.array("image")[z].astype(np.float32), 0, -1)
        image = image[..., 0] if image.shape[-1] == 1 else image
        return Overlay(title, image.clip(0, 1), predicted[z, 0], np.where(learned == IGNORE, 0, learned))
