"""Local discrimination under a prior of shape: one region shall look like masks that come from elsewhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ufc_monai.losses.discrimination import LocalDiscriminationLoss, memberships_of


class ShapePriorLoss(nn.Module):
    """Local discrimination whose first region is pushed towards masks of a shape by a discriminator.

    In the second step, network and discriminator learn from one loss: no gradient of the one's term reaches the other.

    Args:
        local: the loss of local discrimination.
        discriminator: maps masks (b, 1, H, W) with values in [0, 1] to logits (b,), above 0 for true masks. Its
            parameters are saved with the loss, and are the optimizer's to train.
        weight: of the network's term.

    Attributes:
        figures: beside those of ``local``, ``shape_loss`` of the network and ``discriminator_loss``; both are log 2
            where the discriminator cannot tell.
    """

    def __init__(self, local: LocalDiscriminationLoss, discriminator: nn.Module, weight: float = 1.0) -> None:
        super().__init__()
        self.local, self.discriminator, self.weight = local, discriminator, weight
        self.figures: dict[str, Tensor] = {}

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """Those of local discrimination."""
        return self.local.views(output)

    def forward(self, output: tuple[Tensor, Tensor, Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """The loss of a batch.

        Args:
            output: of a :class:`~ufc_monai.networks.LocalDiscriminationNetwork`.
            target: where each pixel of the first views lies in the second, (b, 2, 3) or longer; and masks of the shape,
                (b, 1, H, W), turned and cropped like the first views.

        Returns:
            A scalar, in float32 at least.
        """
        affine, masks = target
        total: Tensor = self.local(output, affine)
        with torch.autocast(masks.device.type, enabled=False):
            maps = memberships_of(output[1])[: len(masks), :1]  # not of the second views, which may be mirrored
            shape_loss, told = adversarial_losses(self.discriminator, maps, masks.to(maps.dtype))
        self.figures = {**self.local.figures, "shape_loss": shape_loss.detach(), "discriminator_loss": told.detach()}
        if self.local.calls <= self.local.patch_steps:
            return total
        self.figures["chance"] = self.figures["chance"] + (self.weight + 1) * math.log(2)
        return total + self.weight * shape_loss + told


def adversarial_losses(discriminator: nn.Module, maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """What a network whose maps shall pass for masks loses, and what the discriminator does, in nats (cross-entropy).

    Args:
        discriminator: maps (b, 1, H, W) to logits (b,).
        maps: of the network, (b, 1, H, W), in [0, 1].
        masks: true ones, (b, 1, H, W).

    Returns:
        Two scalars. The first has a gradient with respect to the maps alone, the second one with respect to the
        discriminator alone.
    """
    fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
    passed: Tensor = functional_call(discriminator, fixed, (maps,))
    made, true = discriminator(torch.cat([maps.detach(), masks])).split([len(maps), len(masks)])
    told = (F.softplus(made).mean() + F.softplus(-true).mean()) / 2
    return F.softplus(-passed).mean(), told
