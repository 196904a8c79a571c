"""The fine-tuning loss for few labelled volumes: without both of its parts only the largest organ is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PresentDiceCELoss", "class_weights"]

WEIGHT_RANGE = (0.2, 4.0)


def class_weights(voxel_counts: Tensor) -> Tensor:
    """Weights of the classes in the cross entropy, from how often they occur in the training voxels.

    ``w_c = clip(sqrt(m / n_c), 0.2, 4)``, where n_c counts the voxels of class c and m is the median count of the
    foreground classes that occur: the root keeps rare structures from drowning out the rest, the clip keeps background
    and the smallest structures in bounds. A class that does not occur cannot be learned and gets weight 1, which no
    voxel uses.

    Args:
        voxel_counts: (C,) voxels of each class, background first.

    Returns:
        (C,) float32.
    """
    counts = voxel_counts.double()
    present = counts[1:][counts[1:] > 0]
    if present.numel() == 0:
        return torch.ones(len(counts))
    weights = (present.median() / counts.clamp(min=1)).sqrt().clamp(*WEIGHT_RANGE)
    return torch.where(counts > 0, weights, torch.ones_like(weights)).float()


class PresentDiceCELoss(nn.Module):
    """Soft Dice over the foreground classes that occur in the batch + class-weighted cross entropy.

    The Dice of a class is taken over the whole batch. A class that does not occur would have a Dice of 0 whatever the
    network does, and is left out.

    Args:
        class_weights: (C,) weights in the cross entropy, background first; all 1 by default.
    """

    def __init__(self, class_weights: Tensor | Sequence[float] | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)
        self.dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, reduction="none")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, C, H, W).
            target: (B, 1, H, W) class indices.
        """
        target = target.long()
        weights = None if self.class_weights is None else self.class_weights.to(logits.device, logits.dtype)
        cross_entropy = F.cross_entropy(logits, target[:, 0], weight=weights)
        occurring = torch.bincount(target.flatten(), minlength=logits.shape[1])[1:] > 0
        if not occurring.any():
            return cross_entropy
        return cross_entropy + self.dice(logits, target).flatten()[occurring].mean()
