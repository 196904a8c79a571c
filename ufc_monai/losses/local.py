"""The local loss of GLCL: parts of a slice against other parts of the same slice."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.contrastive import ContrastiveLoss, pair_masks


class LocalContrastiveLoss(ContrastiveLoss):
    """The local loss of GLCL (Chaitanya et al. 2020, L^R): a region's positive is the same region of the other view.

    The negatives of a region are the other drawn regions of its slice, in both views: NT-Xent within a slice. Regions
    are square, do not overlap, and lie at the same places in both views, so views may differ in intensity only.

    Args:
        regions: regions drawn from each slice (the paper: 13).
        size: their side in pixels of the map (the paper: 3).
        temperature: tau, above 0.
        seed: of the generator that draws the regions.

    Raises:
        InputError: if a map has fewer than ``regions`` places.
    """

    def __init__(self, regions: int = 13, size: int = 3, temperature: float = 0.1, seed: int = 0) -> None:
        super().__init__("simclr", temperature)
        self.regions = regions
        self.size = size
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """The generator's place, for a checkpoint."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a saved place."""
        self.generator.set_state(state)

    def check_places(self, side: int) -> None:
        """Refuse maps of ``side`` x ``side`` pixels if they are too small, before anything is trained.

        Raises:
            InputError: if a map has fewer than ``regions`` places.
        """
        places = (side // self.size) ** 2
        if places < self.regions:
            raise InputError(
                f"the local loss draws {self.regions} regions of {self.size} pixels, and a map of {side} x {side} has "
                f"{places}: raise image_size or lower local_regions."
            )

    def forward(self, maps: Tensor, groups: Tensor | None = None) -> Tensor:
        """The mean loss of a batch.

        Args:
            maps: (2b, D, H, W); rows i and i + b are the two views of slice i.
            groups: not looked at.

        Returns:
            A scalar, in float32 at least.
        """
        self.check_places(min(maps.shape[2:]))
        b = len(maps) // 2
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
            # all places of a map, with what is in them: (2b, places, D * size * size)
            cells = F.unfold(maps, kernel_size=self.size, stride=self.size).transpose(1, 2)
            # different places for each slice, the same in both of its views
            order = torch.rand(b, cells.shape[1], generator=self.generator).argsort(dim=1)
            chosen = order[:, : self.regions].to(maps.device, non_blocking=True).repeat(2, 1)
            f = F.normalize(torch.gather(cells, 1, chosen[..., None].expand(-1, -1, cells.shape[2])), dim=2)
            # (b, 2 * regions, features): rows r and r + regions of a slice are the two views of a region
            f = torch.cat(f.chunk(2), dim=1)
            similarity = f @ f.transpose(1, 2) / self.temperature
            masks = pair_masks(torch.zeros(2 * self.regions, device=maps.device), self.preset)
            positive, negative = (mask.repeat(b, 1) for mask in masks)
            return self.reduced(similarity.flatten(0, 1), positive, negative)
