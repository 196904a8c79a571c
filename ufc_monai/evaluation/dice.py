"""Mean Dice, and Dice on the volumes trained on."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ufc_monai.data.slices import SliceDataset
from ufc_monai.transforms.labels import IGNORE, Overlap

logger = logging.getLogger(__name__)

MIN_DICE = 0.1
"""Dice on the training volumes below which a structure has not been learned. Structures are picked up one at a time:
one that still waits is near 0, one that has been picked up is soon at 0.5 and more."""


def mean_over_present(volumes: Iterable[Iterable[float | None]]) -> float:
    """Mean over the structures present in a volume, then over volumes.

    Args:
        volumes: the Dice of each structure of each volume, ``None`` where the reference does not hold the structure.

    Returns:
        The mean; NaN if there is nothing to average.
    """
    present = [[dice for dice in volume if dice is not None] for volume in volumes]
    return statistics.fmean([statistics.fmean(dice) for dice in present if dice] or [math.nan])


def structure_means(names: Sequence[str], volumes: Iterable[Sequence[float | None]]) -> dict[str, float]:
    """The mean Dice of each structure over the volumes that hold it, by name; NaN where none does.

    Args:
        names: names of the classes 1..n.
        volumes: as for :func:`mean_over_present`.
    """
    columns = zip(*volumes, strict=True)
    return {name: mean_over_present([dice] for dice in of) for name, of in zip(names, columns, strict=True)}


@torch.inference_mode()
def training_dice(
    network: nn.Module,
    dataset: SliceDataset,
    names: Sequence[str],
    inferer: Inferer,
    device: torch.device | str,
    *,
    batch_size: int = 16,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Any]:
    """Dice of every structure on the training volumes, on the network's grid, without augmentation.

    Args:
        network: the fine-tuned network, with the weights that were kept.
        dataset: the labelled training slices.
        names: names of the classes 1..n.
        inferer: runs the network.
        device: where the network is.
        batch_size: slices at a time.
        normalise: what slices go through on their way into the network.

    Returns:
        ``training_dice_<name>``, the mean over the volumes that hold the structure, left out where none does; and
        ``not_converged``, the structures whose mean is below 0.1, which a warning names, too.
    """
    network.eval()
    rows, start = [], 0
    for entry in tqdm(dataset.entries, "Dice on training volumes", unit="volume", leave=False, disable=None):
        slices = Subset(dataset, range(start, start + len(entry)))
        start += len(entry)
        predicted, reference = [], []
        for batch in DataLoader(slices, batch_size=batch_size):
            image, label = batch["image"].to(device), batch["label"][:, 0]
            logits = inferer(normalise(image) if normalise else image, network)
            predicted.append(logits.argmax(dim=1).to("cpu", torch.uint8).masked_fill(label == IGNORE, 0))
            reference.append(label.masked_fill(label == IGNORE, 0))
        p, r = torch.cat(predicted), torch.cat(reference)
        rows.append([Overlap.of(p == c, r == c).dice for c in range(1, len(names) + 1)])
    held = {n: round(value, 4) for n, value in structure_means(names, rows).items() if not math.isnan(value)}
    stuck = [name for name, value in held.items() if value < MIN_DICE]
    if stuck:
        logger.warning(
            "not converged: %s (Dice below %g on the training volumes themselves). Train longer (min_steps, epochs) "
            "before you compare anything.",
            ", ".join(f"{name} {held[name]:.2f}" for name in stuck),
            MIN_DICE,
        )
    return {**{f"training_dice_{name}": value for name, value in held.items()}, "not_converged": stuck}
