"""Handlers that watch a training: is the latent space used, do the embeddings collapse, does the loss move?

They put plain numbers into ``engine.state.metrics`` at the end of each epoch, where :class:`MetricsLog` finds them.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

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

    For trainers with a :class:`~ufc_monai.losses.protocol.StructuralLoss`.
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
