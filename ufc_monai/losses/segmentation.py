"""The fine-tuning loss for few labelled volumes: without both of its parts only the largest organ is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses.dice import DiceLoss
from monai.networks import one_hot
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHT_RANGE = (0.2, 4.0)


def class_weights(voxel_counts: Tensor) -> Tensor:
    """Weights of the classes in the cross entropy, from how often they occur in the training voxels.

    ``w_c = clip(sqrt(m / f_c), 0.2, 4)``, where f_c is the share of class c among the training voxels and m the median
    share of the foreground classes that occur: the root keeps rare structures from drowning out the rest, the clip
    keeps background and the smallest structures in bounds. A class that does not occur gets weight 1: in training no
    voxel uses it, and where it turns up all the same (validation) a 0 would hide its errors, and make the weighted mean
    of a batch of nothing else 0 / 0.

    Args:
        voxel_counts: (C,) voxels of each class, background first.

    Returns:
        (C,) float32.

    Example:
        >>> class_weights(torch.tensor([10000, 400, 100, 25, 0]))
        tensor([0.2000, 0.5000, 1.0000, 2.0000, 1.0000])
    """
    counts = voxel_counts.double()  # the formula has ratios alone: counts do as well as shares
    foreground = counts[1:][counts[1:] > 0]
    if foreground.numel() == 0:
        return torch.ones_like(counts, dtype=torch.float32)
    weights = (foreground.quantile(0.5) / counts).sqrt().clamp(*WEIGHT_RANGE)
    return weights.where(counts > 0, 1.0).float()


class PresentDiceCELoss(nn.Module):
    """Soft Dice over the foreground classes that occur in the batch + class-weighted cross entropy.

    The Dice of a class is taken over the whole batch. A class that does not occur would have a Dice of 0 whatever the
    network does, and is left out; without any, the Dice term is 0. Ignored pixels are in neither part; where all are
    ignored, the loss is 0.

    Args:
        class_weights: (C,) weights in the cross entropy, background first; all 1 by default.
        ignore_index: the target of pixels that nobody has judged.

    Example:
        >>> loss = PresentDiceCELoss(class_weights=[0.2, 1.0, 1.0])
        >>> target = torch.tensor([0, 1, 1, 0]).view(1, 1, 2, 2)
        >>> right = 50 * F.one_hot(target[:, 0], 3).movedim(-1, 1).float()
        >>> round(float(loss(right, target)), 4)
        0.0
    """

    def __init__(self, class_weights: Tensor | Sequence[float] | None = None, ignore_index: int = 255) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", weights)
        self.ignore_index = ignore_index
        self.dice = DiceLoss(include_background=False, batch=True, reduction="none")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, C, H, W), with C of 2 or more.
            target: (B, 1, H, W) class indices, or ``ignore_index``.

        Returns:
            A scalar, computed in float32 at least.
        """
        # sums over all pixels of a batch do not fit half precision
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = target.long()
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        judged = target != self.ignore_index
        classes = target.where(judged, 0)
        cross_entropy = F.cross_entropy(logits, target[:, 0], weight=weights, ignore_index=self.ignore_index)
        # neither counting nor choosing what occurs: a GPU would have to be waited for
        occurring = logits.new_zeros(logits.shape[1]).index_fill(0, classes.flatten(), 1)[1:]
        one_hot_classes = one_hot(classes, logits.shape[1])
        dice: Tensor = self.dice(logits.softmax(dim=1) * judged, one_hot_classes * judged).flatten()
        # the mean over no pixel is NaN
        return cross_entropy.where(judged.any(), 0.0) + (dice * occurring).sum() / occurring.sum().clamp(min=1)
