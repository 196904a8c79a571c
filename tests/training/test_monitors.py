from __future__ import annotations

import json
import logging
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
from ufc_monai.training.monitors import (
    ContrastiveMonitor,
    LatentMonitor,
    PretrainingVerdict,
    RegionsVerdict,
    alignment,
    effective_rank,
    pretraining_verdict,
    regions_verdict,
    uniformity,
)


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


class VectorLoss(nn.Module):
    """A loss with figures of several regions."""

    figures: dict[str, Tensor]

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        return torch.eye(4), torch.eye(4)

    def forward(self, output: Any, target: Any) -> Tensor:
        shares = torch.tensor([0.0, 0.5, 0.5]) if target else torch.tensor([0.0, 0.25, 0.75])
        self.figures = {"region_shares": shares, "effective_regions": torch.tensor(1.9)}
        return torch.zeros(())


def test_empty_and_collapsed_regions_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = logged(VectorLoss(), [(0, True), (0, False)], tmp_path)
    assert line["region_shares"] == [0, 0.375, 0.625]
    engine = Engine(lambda *_: None)
    engine.state.metrics = line
    caplog.clear()
    with caplog.at_level("INFO"):
        RegionsVerdict()._completed(engine)
    said = "Regions: 1.9 of 3 are in use; 2 has 62% of the pixels; empty: 0. They have collapsed: train longer"
    assert line["regions"].startswith(said)
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", line["regions"])]
    assert regions_verdict([0.5, 0.5], 2.0) == (logging.INFO, "Regions: 2.0 of 2 are in use; 0 has 50% of the pixels.")


def test_a_step_with_further_terms_is_judged_by_itself() -> None:
    first, *_ = epochs(16.0, chance=17.0)
    history = [{**first, "step": 1}] + [{**epoch, "step": 2} for epoch in epochs(40.0, 20.0, chance=45.0)]
    assert "the loss fell from 40 to 20 (chance 45)" in pretraining_verdict(history, embedding_size=32)
    assert "the loss fell from 45 to 20" in pretraining_verdict([*history[:1], history[-1]], embedding_size=32)
    flat = [{**epoch, "step": 1} for epoch in epochs(17.0, 16.9, chance=17.0)]
    assert pretraining_verdict(flat, embedding_size=32).endswith("train longer (min_steps, patch_steps).")


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


def epochs(*losses: float, chance: float = 4.55, steps: int = 480, **last: float) -> list[dict[str, float]]:
    """A history that looks sound, but for what is given."""
    sound = {"effective_rank": 11.6, "alignment": 0.23, "uniformity": -2.5}
    history = [{"loss": loss, "chance": chance, "iteration": steps * (i + 1), **sound} for i, loss in enumerate(losses)]
    return [*history[:-1], {**history[-1], **last}]


def test_a_method_without_negatives_is_judged_by_its_embeddings() -> None:
    history = [{key: value for key, value in epoch.items() if key != "chance"} for epoch in epochs(1.9, 0.4)]
    assert pretraining_verdict(history, embedding_size=128).startswith("No collapse: embeddings use 11.6 of 128")
    history[-1]["effective_rank"] = 1.1
    assert pretraining_verdict(history, embedding_size=128).startswith("The embeddings have collapsed")


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (
            epochs(4.51, 2.05),
            "The embeddings have learned: the loss fell from 4.51 to 2.05 (chance 4.55) and embeddings use 11.6",
        ),
        (epochs(0.9, 0.56, chance=0.9), "The embeddings have learned: the loss fell from 0.9 to 0.56 (chance 0.9)"),
        (epochs(2.05), "fell from 4.55 to 2.05"),
        (epochs(0.1, -0.7, chance=-0.01), "The embeddings have learned"),
        (epochs(4.54, 4.5), "The loss is still at its chance level (4.5, chance 4.55): train longer"),
        (epochs(0.9, 0.81, chance=0.9), "still at its chance level"),
        (epochs(-0.01, -0.01, chance=-0.01), "still at its chance level"),
        (epochs(4.54, 4.55, effective_rank=1.3), "The embeddings have collapsed (effective rank 1.3 of 128"),
        (epochs(4.54, 4.55, effective_rank=9, uniformity=-0.001), "The embeddings have collapsed"),
        (epochs(4.51, 2.05, steps=20), "Too early to say after 40 steps; judged from 200 steps on."),
        (epochs(4.55, effective_rank=1.0, steps=199), "Too early to say after 199 steps"),
        (epochs(4.51, float("nan")), "The training broke down after 960 steps"),
        (epochs(4.51, 2.05, effective_rank=float("nan")), "The training broke down"),
    ],
)
def test_one_plain_sentence(history: list[dict[str, float]], words: str) -> None:
    verdict = pretraining_verdict(history, embedding_size=128)
    assert words in verdict
    assert verdict.endswith(".")
    assert "\n" not in verdict


def test_the_sentence_is_logged_once_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [json.dumps(epoch) for epoch in epochs(4.51, 3.0, 2.05)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    engine = Engine(lambda _engine, _batch: None)
    PretrainingVerdict(tmp_path, embedding_size=128).attach(engine)
    with caplog.at_level(logging.INFO):
        state: Any = engine.run([0, 1], max_epochs=3)
    assert state.metrics["verdict"].startswith("The embeddings have learned: the loss fell from 4.51 to 2.05")
    assert [r.message for r in caplog.records if r.name.endswith("monitors")] == [state.metrics["verdict"]]
