from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from tiny_volumes import labelled_slices
from torch import Tensor, nn

from ufc_monai.evaluation.dice import training_dice

NAMES = ("liver", "spleen", "aorta", "absent")


class Reader(nn.Module):
    """Reads the class off the image, but takes every other row of the liver for background and sees no aorta."""

    def forward(self, image: Tensor) -> Tensor:
        assert not self.training
        classes = (image[:, 0] / 10).round().long()
        seen = classes.masked_fill(classes == 3, 0)
        seen[:, ::2] = seen[:, ::2].masked_fill(seen[:, ::2] == 1, 0)
        return nn.functional.one_hot(seen, 5).permute(0, 3, 1, 2).float()


def test_dice_on_training_volumes_names_what_was_not_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = np.zeros((2, 8, 8, 5))
    first[:4, :4] = 1
    first[5, 5, :2] = 3
    second[:, :2, 1] = 2
    dataset = labelled_slices(tmp_path, {"a": first, "b": second[..., :3]})
    results = training_dice(Reader().train(), dataset, NAMES, SimpleInferer(), "cpu", batch_size=2)
    assert results == {
        "training_dice_liver": pytest.approx(2 / 3, abs=1e-4),  # half of it found, nothing else taken for it
        "training_dice_spleen": 1.0,
        "training_dice_aorta": 0.0,
        "not_converged": ["aorta"],
    }
    assert "not converged: aorta 0.00" in caplog.text


def test_nothing_is_said_when_all_is_learned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    voxels = torch.full((8, 8, 2), 2).numpy()
    results = training_dice(Reader(), labelled_slices(tmp_path, {"a": voxels}), NAMES, SimpleInferer(), "cpu")
    assert results == {"training_dice_spleen": 1.0, "not_converged": []}
    assert not caplog.text


def test_slices_are_normalised_on_their_way(tmp_path: Path) -> None:
    voxels = torch.full((8, 8, 2), 2).numpy()
    dataset = labelled_slices(tmp_path, {"a": voxels})
    halved = training_dice(Reader(), dataset, NAMES, SimpleInferer(), "cpu", normalise=lambda image: image / 2)
    assert halved["training_dice_spleen"] == 0.0  # the reader takes it for liver


def test_ignored_pixels_count_nowhere(tmp_path: Path) -> None:
    """Neither in the Dice of a structure nor among the classes of a slice, which weigh it."""
    voxels = np.zeros((8, 8, 2))
    voxels[:4, :4], voxels[4:] = 2, 255  # in the image 2550, which the network takes for class 255
    dataset = labelled_slices(tmp_path, {"a": voxels})

    class Wrong(Reader):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image.where(image < 100, 20))  # the spleen everywhere that is ignored

    results = training_dice(Wrong(), dataset, NAMES, SimpleInferer(), "cpu")
    assert results == {"training_dice_spleen": 1.0, "not_converged": []}
    assert dataset.class_counts(5).tolist() == [[16, 0, 16, 0, 0]] * 2
    assert dataset.foreground_weights(5).tolist() == pytest.approx([0.1 + 1 / 4] * 2)
