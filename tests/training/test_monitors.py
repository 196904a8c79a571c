from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import Tensor, nn
from torch.nn import functional as F

from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.momentum import BootstrapLoss
from ufc_monai.training.log import MetricsLog
from ufc_monai.training.monitors import ContrastiveMonitor, LatentMonitor, alignment, effective_rank, uniformity


def run(monitor: Any, outputs: list[dict[str, Any]]) -> SimpleNamespace:
    """One epoch of an engine that hands out ``outputs``."""
    engine = Engine(lambda _, batch: batch)
    monitor.attach(engine)
    return engine.run(outputs, max_epochs=1)  # type: ignore[no-any-return]


def latents(active: int, dimensions: int = 20, error: float = 0.1) -> dict[str, Any]:
    """A batch in which ``active`` dimensions carry 2 nats each and the others none; slices are all 0 or all 1."""
    mu = torch.zeros(8, dimensions)
    mu[:, :active] = 2.0
    image = torch.tensor([0.0, 1.0] * 4)[:, None, None, None].expand(8, 1, 4, 4)
    return {"image": image, "pred": (image + error, mu, torch.zeros_like(mu), mu)}


def test_latent_monitor_counts_used_dimensions(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        state = run(LatentMonitor(beta=1.0), [latents(5), latents(5)])
    assert state.metrics["mse"] == pytest.approx(0.01)
    assert state.metrics["kl"] == pytest.approx(5 * 2.0)
    assert state.metrics["active_dimensions"] == 5
    # slices differ from their mean, 0.5, by 0.5 in every pixel
    assert state.metrics["explained"] == pytest.approx(1 - 0.01 / 0.25)
    assert "works: reconstructions explain 96% of" in caplog.text
    assert state.metrics["verdict"] in caplog.text


def test_latent_monitor_warns_in_plain_words(caplog: pytest.LogCaptureFixture) -> None:
    run(LatentMonitor(beta=4.0), [latents(1)])
    assert "Only 1 of 20 latent dimensions carry information" in caplog.text


def test_latent_monitor_knows_the_mean_slice(caplog: pytest.LogCaptureFixture) -> None:
    assert run(LatentMonitor(beta=1.0), [latents(5, error=0.5)]).metrics["explained"] == pytest.approx(0)
    assert "has learned little: reconstructions explain 0% of" in caplog.text


def test_auto_encoder_has_no_posterior(caplog: pytest.LogCaptureFixture) -> None:
    state = run(LatentMonitor(beta=0.0), [latents(0)])
    assert "kl" not in state.metrics
    assert state.metrics["verdict"].startswith("The auto-encoder works")
    assert "latent dimensions" not in caplog.text


def logged(loss: Any, batches: list[tuple[Any, Any]], folder: Path) -> dict[str, Any]:
    """What the log holds of one epoch in which ``loss`` meets embeddings and groups."""
    engine = Engine(lambda _, batch: {"pred": batch[0], "loss": loss(*batch)})
    engine.loss_function = loss
    ContrastiveMonitor().attach(engine)
    MetricsLog(folder).attach(engine)
    engine.run(batches, max_epochs=1)
    return json.loads((folder / "metrics.jsonl").read_text())  # type: ignore[no-any-return]


def test_figures_of_a_loss_are_logged_by_name(tmp_path: Path) -> None:
    f = F.normalize(torch.randn(8, 6, generator=torch.Generator().manual_seed(0)))
    one_cluster, four = torch.zeros(8, dtype=torch.long), torch.arange(4).repeat(2)
    line = logged(ClusterContrastiveLoss("ufc"), [(f, one_cluster), (f, four)], tmp_path)
    assert line["dropped_anchors"] == 0.5
    # the mean of both batches, like the loss: without a negative there is none, and no loss either
    assert line["chance"] == pytest.approx(math.log(6) / 2)
    assert line["negatives"] == 3


def test_a_loss_without_negatives_has_no_chance_level(tmp_path: Path) -> None:
    first = torch.eye(4)
    predictions, targets = torch.cat([first, 2 * first]), torch.ones(8, 4)
    line = logged(BootstrapLoss(), [((predictions, targets), None)], tmp_path)
    assert set(line) == {"epoch", "iteration", "loss", "effective_rank", "alignment", "uniformity", "seconds"}
    assert line["alignment"] == 0  # of unit length, whatever the length of a prediction
    assert line["effective_rank"] == pytest.approx(4, rel=1e-4)


class OwnMethodLoss(nn.Module):
    """A method of somebody's own: all that handlers ask for, and no class of ours."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: dict[str, Tensor] = {}

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        return output["first"], output["second"]

    def forward(self, output: Any, target: Any) -> Tensor:
        self.figures = {"margin": torch.tensor(float(target))}
        return self.figures["margin"].square()


def test_a_method_needs_no_class_of_ours(tmp_path: Path) -> None:
    views = {"first": torch.eye(4), "second": -torch.eye(4)}
    line = logged(OwnMethodLoss(), [(views, 1), (views, 2)], tmp_path)
    assert (line["margin"], line["loss"], line["alignment"]) == (1.5, 2.5, 4)


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(torch.ones(9, 5)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.eye(7)) == pytest.approx(7, rel=1e-4)
    assert math.isnan(effective_rank(torch.full((4, 3), math.nan)))


def test_alignment_and_uniformity_at_their_ends() -> None:
    f = torch.eye(4)
    assert alignment(f, f) == 0
    assert alignment(f, -f) == pytest.approx(4)
    assert uniformity(f[:1].expand(4, 4).contiguous()) == pytest.approx(0)
    assert uniformity(f) == pytest.approx(-4)  # all pairs at squared distance 2
