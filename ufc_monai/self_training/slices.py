"""The slices of labelled and unlabelled volumes as one data set, whose second part gets its labels from a round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ufc_monai.base.errors import InputError
from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.store import StoreEntry
from ufc_monai.self_training.rounds import Round
from ufc_monai.transforms.labels import IGNORE


def required(volumes: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    """The unlabelled training volumes.

    Raises:
        InputError: if there are none.
    """
    if not volumes:
        raise InputError(
            "self_training: the label of every training scan is used, so nothing unlabelled is left to learn from. "
            "Leave self_training.json out, or lower labelled_volumes."
        )
    return volumes


class JoinedSlices(Dataset[dict[str, Any]]):
    """Labelled slices, and behind them unlabelled ones with the labels of the round that is open.

    Args:
        labelled: slices with the key ``label``.
        unlabelled: slices without it.
    """

    def __init__(self, labelled: SliceDataset, unlabelled: SliceDataset) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled
        self.round_entries: list[StoreEntry] = []

    def open_round(self, found: Round) -> None:
        """Take the labels of the unlabelled slices from a round."""
        self.round_entries = found.entries()

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A slice.

        Raises:
            KeyError: at an unlabelled slice before the first round.
        """
        k = index - len(self.labelled)
        if k < 0:
            return self.labelled[index]
        volume, number = self.unlabelled.items.place(k)
        return self.unlabelled[k] | {"label": self.round_entries[volume].sample(number)["label"]}

    def foreground_weights(self, n_classes: int, base: float = 0.1) -> tuple[Tensor, Tensor]:
        """Sampling weights of the labelled and of the unlabelled slices, (N,) each and 0 for the other part.

        As those of :meth:`SliceDataset.foreground_weights`; before the first round nothing unlabelled is drawn.

        Args:
            n_classes: classes including background.
            base: weight of a slice of background alone.
        """
        first, second = self.labelled.foreground_weights(n_classes, base), torch.zeros(len(self.unlabelled)).double()
        if self.round_entries:
            labels = (label.ravel() for entry in self.round_entries for label in entry.array("label"))
            present = [np.count_nonzero(np.bincount(label, minlength=IGNORE)[1:n_classes]) for label in labels]
            second = base + torch.tensor(present, dtype=torch.float64) / (n_classes - 1)
        return torch.cat([first, second * 0]), torch.cat([first * 0, second])
