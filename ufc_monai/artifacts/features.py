"""Feature vectors of slices, outside of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ufc_monai.data.slices import SliceDataset


@torch.inference_mode()
def encode(
    encoder: nn.Module,
    dataset: SliceDataset,
    device: torch.device | str,
    *,
    indices: Sequence[int] | None = None,
    num_workers: int = 0,
    normalise: Callable[[Tensor], Tensor] | None = None,
) -> NDArray[np.float32]:
    """The encoder's feature vectors of some slices.

    Args:
        encoder: maps (B, C, H, W) to (B, F); its mode, training or not, is left as it is found.
        dataset: slices.
        device: where the encoder is.
        indices: which slices; ``None`` for all.
        num_workers: processes that load slices.
        normalise: what a batch goes through on its way into the encoder.

    Returns:
        (n, F).
    """
    slices = dataset if indices is None else Subset(dataset, indices)
    # a generator of its own: a loader draws from PyTorch's global one even where nothing is shuffled
    loader = DataLoader(slices, batch_size=128, num_workers=num_workers, generator=torch.Generator())
    training = encoder.training
    encoder.eval()
    bar = tqdm(loader, "features", unit="batch", leave=False, disable=None)
    images = (batch["image"].to(device) for batch in bar)
    features = [encoder(normalise(x) if normalise else x).float().cpu().numpy() for x in images]
    encoder.train(training)
    return np.concatenate(features)
