"""The supervised baseline: an encoder fine-tuned on labels of whole slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler

from ufc_monai.artifacts.features import encode
from ufc_monai.data.slices import SliceDataset
from ufc_monai.evaluation.published import Published
from ufc_monai.transforms.batch import BatchAugment

BATCH = 32
LEARNING_RATE = 1e-3


class _Labelled(Dataset[dict[str, Any]]):
    """The slices that have a class."""

    def __init__(self, slices: SliceDataset, classes: NDArray[np.int64]) -> None:
        self.slices, self.classes, self.known = slices, classes, np.flatnonzero(classes >= 0).tolist()

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = self.known[index]
        return {"image": self.slices[place]["image"], "label": torch.tensor(self.classes[place])}


def fine_tuned(
    encoder: nn.Module,
    of: Published,
    slices: SliceDataset,
    classes: NDArray[np.int64],
    held_out: Sequence[int],
    *,
    steps: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Train an encoder and a linear layer by cross entropy on mildly augmented slices (AdamW, cosine schedule).

    Args:
        encoder: (B, C, H, W) to (B, F), on the device; it is changed.
        of: whose slices these are.
        slices: all of them.
        classes: of each, 0 to C - 1; those of -1 are left out, (n,).
        held_out: indices of the slices to predict, (m,).
        steps: of training.
        seed: of the layer, the order and the augmentation.

    Returns:
        The class of each held-out slice, (m,).
    """
    device = torch.device(of.device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        width = encoder(torch.zeros(2, *slices[0]["image"].shape, device=device)).shape[1]
        network = nn.Sequential(encoder, nn.Linear(width, int(classes.max()) + 1).to(device)).train()
    labelled = _Labelled(slices, classes)
    generator = torch.Generator().manual_seed(seed)
    order = RandomSampler(labelled, replacement=True, num_samples=steps * BATCH, generator=generator)
    augment = BatchAugment(
        rotation=10, field=(0.9, 1.1), shift=0.05, brightness=0.1, contrast=(0.8, 1.2), noise=0.02, seed=seed
    )
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in DataLoader(labelled, BATCH, sampler=order):
        image, _ = augment(batch["image"].to(device))
        optimizer.zero_grad()
        seen = of.normalise(image) if of.normalise else image
        loss = F.cross_entropy(network(seen), batch["label"].to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    scores = encode(network, slices, device, indices=held_out, normalise=of.normalise)
    return np.asarray(scores.argmax(axis=1))
