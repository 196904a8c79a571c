from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice
from torch import nn

from ufc_monai.training.save import WeightsSaver
from ufc_monai.training.schedule import FinalValidationHandler


@pytest.mark.parametrize("best", [1, 2, 3])
def test_the_results_are_those_of_the_weights_that_are_kept(best: int, tmp_path: Path) -> None:
    """A network of one weight is validated after each of three epochs; that of the epoch ``best`` is right."""
    network = nn.Linear(1, 1, bias=False)
    label = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 4)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=[{"image": torch.ones(1, 1), "label": label[None]}],
        network=network,
        postprocessing=lambda data: data | {"pred": label if data["pred"].item() == best else 1 - label},
        key_val_metric={"val_mean_dice": MeanDice(output_transform=lambda out: ([out[0]["pred"]], [out[0]["label"]]))},
    )
    trainer = Engine(lambda *_: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: nn.init.constant_(network.weight, e.state.epoch))
    FinalValidationHandler(1, evaluator).attach(trainer)
    WeightsSaver(tmp_path, network, {"stage": "toy"}, evaluator).attach(trainer)
    metrics = trainer.run([0, 0], max_epochs=3).metrics
    assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].item() == best
    chosen = json.loads((tmp_path / "network.json").read_text())["chosen"]
    assert chosen == {"epoch": best, "val_mean_dice": 1.0}
    last = 1.0 if best == 3 else 0.0
    kept = {"val_mean_dice": 1.0, "kept_epoch": best, "kept_step": 2 * best}
    assert metrics == {**kept, "last_val_mean_dice": last}


@pytest.mark.parametrize(("chosen", "known"), [(1, 1), (5, -1)])
def test_a_resumed_training_knows_only_a_best_whose_weights_stand(chosen: int, known: int, tmp_path: Path) -> None:
    """It goes on behind epoch 2; weights of a later epoch, which comes again, may have replaced the best it knows."""
    (tmp_path / "network.json").write_text(json.dumps({"chosen": {"epoch": chosen}}))
    trainer, evaluator = Engine(lambda *_: None), Engine(lambda *_: None)
    trainer.state.iteration, trainer.state.epoch, evaluator.state.best_metric_epoch = 4, 2, 1
    WeightsSaver(tmp_path, nn.Identity(), {"stage": "toy"}, evaluator)._started(trainer)
    assert evaluator.state.best_metric_epoch == known
