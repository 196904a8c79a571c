"""The course of self-training, step by step: a network that tells three classes by brightness, and no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import refused
from torch import Tensor, nn

from ufc_monai.base.files import sha256_of
from ufc_monai.data.store import StoreEntry, write_entry
from ufc_monai.report import slices as drawn
from ufc_monai.self_training.handler import SelfTraining, averaged_copy
from ufc_monai.self_training.picture import RoundPicture
from ufc_monai.self_training.slices import JoinedSlices, required


class Painter(nn.Module):
    """Of values near 0, 1 and 2 the logits of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self.sharpness * (1 - (images[:, :1] - c).abs()) for c in range(3)], dim=1)


class Labelled:
    def __len__(self) -> int:
        return 2

    def class_counts(self, n_classes: int) -> Tensor:
        return torch.tensor([[104, 16, 8]] * 2)

    def foreground_weights(self, n_classes: int, base: float) -> Tensor:
        return torch.tensor([base, base + 1], dtype=torch.float64)


class Unlabelled:
    """Slices of 8 x 8 pixels with 40, 16 and 8 of the classes, the last two empty; ``channels`` alike."""

    def __init__(self, folder: Path, channels: int) -> None:
        image = np.zeros((4, channels, 8, 8), dtype=np.float16)
        image[:2, :, :, 4:6], image[:2, :, :, 6] = 1, 2
        self.entries = list[StoreEntry]()
        for k in range(2):
            (folder / str(k)).mkdir(parents=True)
            items = [{"id": f"scan{k}.nii.gz#{i}"} for i in range(4)]
            self.entries.append(write_entry(folder / str(k), items, {"image": image}))

    def __len__(self) -> int:
        return 8


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def course(tmp_path: Path, request: pytest.FixtureRequest) -> SelfTraining:
    slices = JoinedSlices(Labelled(), Unlabelled(tmp_path / "store", request.param))  # type: ignore[arg-type]
    network = Painter()
    return SelfTraining(
        tmp_path / "rounds",
        slices,
        SimpleNamespace(partner_weights=None),  # type: ignore[arg-type]
        {"network": network},
        averaged_copy(network),
        lambda images, network: network(images),
        ("background", "large", "small"),
        connected=(),
        warm_up=4,
        interval=3,
    )


def at(course: SelfTraining, step: int) -> list[str]:
    """The rounds, and those of them that still have labels, after the epoch that begins behind some step has begun."""
    course._epoch_started(SimpleNamespace(state=SimpleNamespace(iteration=step)))
    return sorted(path.name + "*" * (path / "0").is_dir() for path in Path(course.folder).glob("round_*"))


def test_a_round_is_due_after_the_warm_up_and_each_interval_and_old_labels_go(course: SelfTraining) -> None:
    assert at(course, 3) == []
    assert not hasattr(course.sampler.partner_weights, "tolist")
    assert at(course, 4) == ["round_1*"]
    assert at(course, 4) == ["round_1*"], "it is there when the step begins again"
    assert at(course, 6) == ["round_1*"]
    course.state_dict()
    assert at(course, 7) == ["round_1*", "round_2*"]
    assert course.last_round is not None
    assert course.last_round.content["agreement"] == [1, 1, 1]
    assert course.last_round.content["step"] == 7
    assert course.state_dict()["sha256"] == sha256_of(Path(course.folder, "round_2", "round.json"))
    assert at(course, 10) == ["round_1*", "round_2*", "round_3*"], "a checkpoint comes back to the first"
    course.state_dict()
    assert at(course, 13) == ["round_1", "round_2*", "round_3*", "round_4*"]


def test_unlabelled_slices_are_drawn_by_the_structures_that_the_round_shows(course: SelfTraining) -> None:
    weights = course.slices.foreground_weights(3)
    assert [part.tolist() for part in weights] == [[0.1, 1.1, *[0] * 8], [0] * 10]
    at(course, 4)
    assert course.sampler.partner_weights is not None
    assert course.sampler.partner_weights.tolist() == [0, 0, *[1.1, 1.1, 0.1, 0.1] * 2]
    assert torch.equal(course.slices.foreground_weights(3)[0], weights[0])


@pytest.mark.parametrize(("steps", "warned"), [(4, True), (5, False)])
def test_a_training_that_ends_before_the_first_round(
    course: SelfTraining, steps: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    course._started(SimpleNamespace(state=SimpleNamespace(max_epochs=steps, epoch_length=1)))
    assert ("the training ends before its warm-up of 4 steps" in caplog.text) == warned


def test_a_picture_shows_the_last_of_two_rounds(course: SelfTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(drawn, "save_overlays", lambda path, overlays, *_: shown.extend(overlays))
    for step in (4, 7):
        at(course, step)
        assert shown == []
        RoundPicture("", course)._completed(None)
    image = course.slices.unlabelled.entries[0].array("image")[0]
    for overlay in shown:
        assert overlay.image.shape == ((8, 8) if len(image) == 1 else (8, 8, 3))
        np.testing.assert_array_equal(overlay.reference, image[0])
        np.testing.assert_array_equal(overlay.prediction, image[0])
    assert {overlay.title.partition(":")[2] for overlay in shown} <= {
        f" scan{k}.nii.gz, agreement 1.00" for k in range(2)
    }
    assert shown


def test_a_teacher_follows_closely_at_first() -> None:
    network = Painter()
    teacher = averaged_copy(network, decay=0.25)
    seen = []
    for value in (1.0, 2.0, 2.0):
        network.sharpness.data.fill_(value)
        teacher.update_parameters(network)
        seen.append(float(torch.as_tensor(teacher.module.sharpness).detach()))
    assert seen == pytest.approx([1, 2 - 2 / 11, 2 - 2 / 11 * 0.25])


def test_without_unlabelled_volumes_there_is_nothing_to_do() -> None:
    assert required([{"image": "a"}]) == [{"image": "a"}]
    with refused() as message:
        required([])
    assert message[0].startswith("self_training: the label of every training scan is used")
