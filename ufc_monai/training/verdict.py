"""Is pretraining working? One plain sentence at the end of stage 2."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ignite.engine import Engine

from ufc_monai.base.ranks import Reporter

logger = logging.getLogger(__name__)

MIN_STEPS = 200
"""Steps before which nothing is said: NT-Xent stays at chance for its first 50 to 250 steps, and an untrained network,
whose batch norms know no statistics yet, looks collapsed."""
MIN_RANK = 2.0
"""Effective rank below which embeddings lie on a line; 1 is collapse. On abdominal CT sound trainings ended at 6 to 12,
on small phantoms at 3 to 4; those at a learning rate a hundred times too high at 1.1 to 2."""
FLAT = -0.02
"""Uniformity above which embeddings lie in one point; 0 is collapse. Networks that such a learning rate had made
collapse had -0.01 to 0, sound ones that still lingered at chance -0.08 or less."""
MIN_FALL = 0.15
"""The share of its chance level by which the loss must fall: on abdominal CT, it fell by 10 % where the clusters were
drawn by lot, and by 28 % or more where they were not."""


def pretraining_verdict(history: Sequence[Mapping[str, float]], *, embedding_size: int) -> str:
    """Say in one sentence whether contrastive pretraining works.

    The loss is compared with its own chance level, which differs by preset and clusters: log(2b - 1) for NT-Xent, far
    less for Eq. 2. A method without negatives has none, and is judged by its embeddings alone. The sentence is about
    the pretraining alone; it promises nothing for the segmentation.

    Args:
        history: the metrics of each epoch: ``iteration`` (steps so far), ``loss``, ``chance``, ``effective_rank`` and
            ``uniformity``, as ``metrics.jsonl`` holds them; ``chance`` may be missing.
        embedding_size: length of the embedding.
    """
    last = history[-1]
    steps, loss, chance = last["iteration"], last["loss"], last.get("chance")
    rank, uniformity = last["effective_rank"], last["uniformity"]
    if not all(map(math.isfinite, (loss, rank, uniformity))):
        return f"The training broke down after {steps} steps (loss {loss:.3g}): lower learning_rate."
    if steps < MIN_STEPS:
        return f"Too early to say after {steps} steps; judged from {MIN_STEPS} steps on."
    if rank < MIN_RANK or uniformity > FLAT:
        return (
            f"The embeddings have collapsed (effective rank {rank:.1f} of {embedding_size}, uniformity "
            f"{uniformity:.2f}): lower learning_rate, or weaken the views (view_crop, view_noise)."
        )
    if chance is None:
        return f"No collapse: embeddings use {rank:.1f} of {embedding_size} directions (loss {loss:.3g})."
    if chance - loss < MIN_FALL * abs(chance):
        return (
            f"The loss is still at its chance level ({loss:.3g}, chance {chance:.3g}): train longer (epochs), and look "
            "at the clusters of stage 1."
        )
    start = history[0]["loss"] if len(history) > 1 else chance
    return (
        f"Pretraining works: the loss fell from {start:.3g} to {loss:.3g} (chance {chance:.3g}) and embeddings use "
        f"{rank:.1f} of {embedding_size} directions."
    )


@dataclass(eq=False)
class PretrainingVerdict(Reporter):
    """Log the verdict once, at the end of training, and put it under ``engine.state.metrics["verdict"]``.

    Args:
        output_dir: folder of the ``metrics.jsonl`` that :class:`MetricsLog` has written; list this handler behind it.
        embedding_size: length of the embedding.
    """

    output_dir: str | os.PathLike[str]
    embedding_size: int

    def _completed(self, engine: Engine) -> None:
        lines = Path(self.output_dir, "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        verdict = pretraining_verdict([json.loads(line) for line in lines], embedding_size=self.embedding_size)
        engine.state.metrics["verdict"] = verdict
        logger.info(verdict)
