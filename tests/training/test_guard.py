from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.losses.local import LocalContrastiveLoss
from ufc_monai.training.guard import LossGuard


def trainer(
    loss: nn.Module, network: nn.Module, batches: list[dict[str, Any]], *, fused: bool = True, late: bool | None = None
) -> SupervisedTrainer:
    return SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=batches,
        network=network,
        loss_function=loss,
        optimizer=torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused),
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["label"]),
        train_handlers=[LossGuard(late)],
        decollate=False,
    )


class Broken(LocalContrastiveLoss):
    """A local loss of maps that are not finite."""

    def forward(self, maps: Tensor, affine: Tensor) -> Tensor:
        return super().forward(maps[:, :, None, None].expand(-1, -1, 12, 12) / 0, torch.eye(2, 3).repeat(5, 1, 1))


@pytest.mark.parametrize("loss", [nn.MSELoss(), Broken(regions=2, size=3)], ids=["any", "local"])
def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_slices(
    loss: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    network = nn.Linear(3, 3)
    images = [torch.ones(10, 3), torch.full((10, 3), torch.nan if isinstance(loss, nn.MSELoss) else 1.0)]
    if not isinstance(loss, nn.MSELoss):
        images = images[1:]
    ids = [f"anna.nii.gz#{i}" for i in range(10)]
    engine = trainer(loss, network, [{"image": image, "label": torch.ones(10, 3), "id": ids} for image in images])
    with pytest.raises(InputError, match=rf"the loss is nan at step {len(images)} \(epoch 1\)") as caught:
        engine.run()
    assert ", ".join(ids[:8]) + " and 2 more (see the log)" in str(caught.value)
    assert ", ".join(ids) in caplog.text
    assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("after", [0, 1])
def test_one_step_late_the_weights_are_as_they_were(after: int) -> None:
    network = nn.Linear(3, 3)
    values = [1.0, torch.nan, *[2.0] * after]
    batches = [
        {"image": torch.full((2, 3), value), "label": torch.ones(2, 3), "id": [f"a#{i}", f"b#{i}"]}
        for i, value in enumerate(values)
    ]
    engine = trainer(nn.MSELoss(), network, batches, late=True)
    seen: list[Tensor] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(network.weight.detach().clone()))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: pytest.fail("something could be saved"))
    with pytest.raises(InputError, match=r"the loss is nan at step 2 \(epoch 1\), on the slices a#1, b#1\. Look"):
        engine.run()
    assert len(seen) == 2, "the step was taken, and the next one was not"
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], network.weight)
    state = engine.optimizer.state[network.weight]
    assert state["step"] == 1
    assert state["exp_avg"].isfinite().all()


@pytest.mark.parametrize(("fused", "late"), [(False, None), (True, None), (True, True)])
def test_a_batch_without_a_valid_anchor_changes_nothing_and_is_counted(fused: bool, late: bool | None) -> None:
    network, loss = nn.Linear(3, 3), ClusterContrastiveLoss("ufc")
    images, one, two = torch.rand(4, 3), torch.zeros(4), torch.tensor([0, 1, 0, 1])
    batches = [{"image": images, "label": label, "id": ["a#0", "a#1"]} for label in (one, two, one)]
    seen: list[Tensor] = []
    engine = trainer(loss, network, batches, fused=fused, late=late)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(network.weight.detach().clone()))
    before = network.weight.detach().clone()
    engine.run()
    assert torch.equal(before, seen[0])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2]), "momentum and weight decay rest, too"
    assert engine.state.metrics == {"skipped_batches": 2}
