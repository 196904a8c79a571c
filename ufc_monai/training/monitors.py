"""Handlers that watch a training: is the latent space used, do the embeddings collapse, is pretraining working?"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ignite.engine import Engine
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.ranks import Reporter
from ufc_monai.losses.vae import kl_per_dimension, reconstruction_error

logger = logging.getLogger(__name__)

ACTIVE_KL = 0.1
"""Nats of KL from which on a latent dimension counts as used. The usual test on the variance of the means passes a
nearly collapsed model."""
FEW_ACTIVE = 0.1
"""The share of used dimensions below which a warning is due."""
LITTLE_EXPLAINED = 0.2
"""The share of the slices' variance below which reconstructions are hardly more than the mean slice. On abdominal CT
sound trainings explain half of it, a nearly collapsed one a third, a collapsed one nothing."""

EMPTY = 0.001
"""The share of the pixels below which a region is empty."""
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


@dataclass(eq=False)
class LatentMonitor(Reporter):
    """Reconstruction error, KL (in all and per dimension) and the number of used dimensions, over an epoch.

    ``explained`` is the share of the slices' variance about their mean slice that reconstructions explain. Ends with a
    sentence in plain words, ``engine.state.metrics["verdict"]``.

    Args:
        beta: weight of the KL in the full loss; at 0 there is no posterior to watch.
    """

    beta: float

    def _epoch_started(self, engine: Engine) -> None:
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    def _iteration_completed(self, engine: Engine) -> None:
        reconstruction, mu, logvar = engine.state.output["pred"][:3]
        image = engine.state.output["image"]
        with torch.no_grad():
            values = {"mse": reconstruction_error(reconstruction, image) / image[0].numel()}
            values |= {"mean": image.double().mean(dim=0), "square": image.double().square().mean(dim=0)}
            if self.beta > 0:
                values["kl"] = kl_per_dimension(mu, logvar)
        self._sums = {key: self._sums.get(key, 0) + value for key, value in values.items()}
        self._batches += 1

    def _epoch_completed(self, engine: Engine) -> None:
        metrics, means = engine.state.metrics, {name: total / self._batches for name, total in self._sums.items()}
        variance = float((means["square"] - means["mean"].square()).mean())
        metrics["mse"] = float(self._sums["mse"]) / self._batches
        metrics["explained"] = 1 - metrics["mse"] / variance if variance > 0 else 0.0
        if self.beta > 0:
            metrics["kl"] = float(means["kl"].sum())
            metrics["active_dimensions"] = int((means["kl"] > ACTIVE_KL).sum())
            metrics["kl_per_dimension"] = [round(value, 4) for value in means["kl"].tolist()]

    def _completed(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        explained = f"reconstructions explain {metrics['explained']:.0%} of the slices' variance about the mean slice"
        used, n = metrics.get("active_dimensions", 0), len(metrics.get("kl_per_dimension", []))
        level = logging.WARNING
        if metrics["explained"] < LITTLE_EXPLAINED:
            verdict = f"The auto-encoder has learned little: {explained}. Train longer (min_steps, epochs)."
        elif used < FEW_ACTIVE * n:
            verdict = (
                f"Only {used} of {n} latent dimensions carry information (KL above {ACTIVE_KL:g} nat): the clusters "
                f"may be close to noise. Lower beta (now {self.beta:g}) or train longer."
            )
        else:
            level, dimensions = logging.INFO, f" and {used} of {n} latent dimensions carry information" if n else ""
            verdict = f"The auto-encoder works: {explained}{dimensions}."
        metrics["verdict"] = verdict
        logger.log(level, verdict)


class ContrastiveMonitor(Reporter):
    """Effective rank, alignment and uniformity of the last batch of an epoch, in the views that the loss compares.

    For trainers whose loss has ``views`` (see :mod:`ufc_monai.losses.protocol`).
    """

    def _epoch_completed(self, engine: Engine) -> None:
        views = engine.loss_function.views(engine.state.output["pred"])
        first, second = (F.normalize(view.detach().float(), dim=1) for view in views)
        both = torch.cat([first, second])
        engine.state.metrics.update(
            effective_rank=effective_rank(both), alignment=alignment(first, second), uniformity=uniformity(both)
        )


def effective_rank(embeddings: Tensor) -> float:
    """How many directions the embeddings use: exp of the entropy of their normalised singular values.

    Args:
        embeddings: (n, d).

    Returns:
        1 when all lie on one line (collapse), up to min(n, d); NaN where an embedding is not finite.
    """
    if not embeddings.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(embeddings)
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.clamp_min(torch.finfo(shares.dtype).tiny).log()).sum()))


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the two views of an image (Wang & Isola 2020); 0 when they coincide, 4 at most."""
    return float((first - second).square().sum(dim=1).mean())


def uniformity(embeddings: Tensor) -> float:
    """Log of the mean Gaussian potential of all pairs, t = 2 (Wang & Isola 2020); 0 at collapse, lower is better."""
    return float(torch.pdist(embeddings).square().mul(-2).exp().mean().log())


def pretraining_verdict(history: Sequence[Mapping[str, float]], *, embedding_size: int) -> str:
    """Say in one sentence whether contrastive pretraining works.

    The loss is compared with its own chance level, which differs by preset and clusters: log(2b - 1) for NT-Xent, far
    less for Eq. 2. A method without negatives has none, and is judged by its embeddings alone. The sentence is about
    the pretraining alone; it promises nothing for the segmentation.

    Args:
        history: the metrics of each epoch: ``iteration`` (steps so far), ``loss``, ``chance``, ``effective_rank`` and
            ``uniformity``, as ``metrics.jsonl`` holds them; ``chance`` may be missing, and ``step``, of a method that
        adds terms to its loss.
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
        advice = "(epochs), and look at the clusters of stage 1" if "step" not in last else "(min_steps, patch_steps)"
        return f"The loss is still at its chance level ({loss:.3g}, chance {chance:.3g}): train longer {advice}."
    alike = [epoch for epoch in history if epoch.get("step") == last.get("step")]  # a later step has other terms
    start = alike[0]["loss"] if len(alike) > 1 else chance
    return (
        f"The embeddings have learned: the loss fell from {start:.3g} to {loss:.3g} (chance {chance:.3g}) and "
        f"embeddings use {rank:.1f} of {embedding_size} directions."
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


def regions_verdict(shares: Sequence[float], effective: float) -> tuple[int, str]:
    """Say in one sentence which regions are degenerate; the level of the log message comes first.

    Args:
        shares: of the pixels in which each region is the strongest.
        effective: number of regions, as :func:`ufc_monai.losses.in_use` counts them.
    """
    empty = [str(k) for k, share in enumerate(shares) if share < EMPTY]
    largest = max(range(len(shares)), key=shares.__getitem__)
    verdict = f"Regions: {effective:.1f} of {len(shares)} are in use; {largest} has {shares[largest]:.0%} of the pixels"
    verdict += f"; empty: {', '.join(empty)}." if empty else "."
    if effective >= MIN_RANK:
        return logging.WARNING if empty else logging.INFO, verdict
    return logging.WARNING, f"{verdict} They have collapsed: train longer (patch_steps), or raise region_weight."


class RegionsVerdict(Reporter):
    """Log the verdict on the regions of local discrimination at the end, and put it under the metric ``regions``."""

    def _completed(self, engine: Engine) -> None:
        metrics = engine.state.metrics
        level, metrics["regions"] = regions_verdict(metrics["region_shares"], metrics["effective_regions"])
        logger.log(level, metrics["regions"])
