"""GLCL: whole slices by their partition of the volume, and parts of a slice against other parts of the same slice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ufc_monai.base.errors import InputError
from ufc_monai.losses.cells import cell_means, cells_of, matched, placed_back
from ufc_monai.losses.contrastive import ClusterContrastiveLoss, ContrastiveLoss, pair_masks
from ufc_monai.losses.protocol import DROPPED


class _DrawingLoss(ContrastiveLoss):
    """A loss of parts of slices that are drawn by a generator of its own."""

    generator: torch.Generator

    def get_extra_state(self) -> Tensor:
        """The generator's place, for a checkpoint."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a saved place."""
        self.generator.set_state(state)


class LocalContrastiveLoss(_DrawingLoss):
    """The local loss of GLCL (Chaitanya et al. 2020, L^R): a region's positive is the same region of the other view.

    The negatives of a region are the other drawn regions of its slice, in both views: NT-Xent within a slice. Regions
    are squares of the first view that do not overlap, and are found in the second; what that does not show wholly is
    drawn last, and is neither positive nor negative.

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

    def forward(self, maps: Tensor, affine: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            maps: (2b, D, H, W); rows i and i + b are the two views of slice i.
            affine: where each pixel of the first views lies in the second, (b, 2, 3) or longer.

        Returns:
            A scalar, in float32 at least.
        """
        self.check_places(min(maps.shape[2:]))
        b = len(maps) // 2
        with torch.autocast(maps.device.type, enabled=False):
            first, second, seen = matched(maps.to(torch.promote_types(maps.dtype, torch.float32)), affine)
            whole = cells_of(seen[:, None].float(), self.size).amin(dim=2) == 1
            # different places for each slice, the same in both of its views
            order = torch.rand(whole.shape, generator=self.generator).to(maps.device, non_blocking=True)
            chosen = (order + ~whole).argsort(dim=1)[:, : self.regions]
            # (b, 2 * regions, features): rows r and r + regions of a slice are the two views of a region
            f = torch.cat([_gathered(cells_of(view, self.size), chosen) for view in (first, second)], dim=1)
            f = F.normalize(f, dim=2)
            similarity = f @ f.transpose(1, 2) / self.temperature
            known = whole.gather(1, chosen).repeat(1, 2)
            both = known[:, :, None] & known[:, None]
            masks = pair_masks(torch.zeros(2 * self.regions, device=maps.device), self.preset)
            positive, negative = ((mask.repeat(b, 1, 1) & both).flatten(0, 1) for mask in masks)
            return self.reduced(similarity.flatten(0, 1), positive, negative)


class CellContrastiveLoss(_DrawingLoss):
    """Cells of the decoder's maps: the same cell of slices of the same group attracts, all others are negatives.

    Views are brought back to their slice, by flip, rotation and crop undone, so that a cell is the same place of the
    body's box in all slices; what a view does not show, or shows by less than half, takes no part.

    Args:
        preset: as temperature and threshold in :class:`ContrastiveLoss`.
        temperature: tau, above 0.
        threshold: of positions.
        grid: cells along each side of a slice.
        cells: how many of them are drawn for a batch, the same in all its slices.
        seed: of the generator that draws them.
    """

    def __init__(
        self,
        preset: str = "ufc",
        temperature: float = 0.1,
        threshold: float | None = None,
        grid: int = 8,
        cells: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(preset, temperature, threshold)
        self.grid = grid
        self.cells = cells
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, maps: Tensor, groups: Tensor, affine: Tensor) -> Tensor:
        """The mean loss of a batch.

        Args:
            maps: (2b, D, H, W); rows i and i + b are the two views of slice i.
            groups: of the views, (2b,).
            affine: where each pixel of the slice lies in the view, (2b, 2, 3).

        Returns:
            A scalar, in float32 at least.
        """
        chosen = torch.randperm(self.grid**2, generator=self.generator)[: self.cells].to(maps.device)
        with torch.autocast(maps.device.type, enabled=False):
            pixels = F.normalize(maps.to(torch.promote_types(maps.dtype, torch.float32)), dim=1)
            f, seen = cell_means(*placed_back(pixels, affine), self.grid)
            f, seen = f[:, chosen].flatten(0, 1), seen[:, chosen].flatten()
            # numbers of other cells lie further apart than those of any two groups
            apart = 2 * (groups.max() - groups.min() + 1)
            places = torch.arange(len(chosen), device=maps.device)
            groups = (groups[:, None] + places * apart).flatten()
            both = seen[:, None] & seen
            positive, negative = (mask & both for mask in pair_masks(groups, self.preset, self.threshold))
            return self.reduced(f @ f.T / self.temperature, positive, negative)


class _SlicesAndParts(ContrastiveLoss):
    """The loss of whole slices and, weighted, that of parts of them.

    Attributes:
        figures: those of the loss of slices, whose ``chance`` is that of the sum; and the two losses. An anchor counts
            as dropped where both drop it: what teaches by its parts alone is no batch to pass over.
    """

    local: ContrastiveLoss
    told = slice(None)
    """Of the target: what ``local`` is told."""

    def __init__(self, preset: str, temperature: float, threshold: float | None, weight: float = 1.0) -> None:
        super().__init__(preset, temperature, threshold)
        self.whole = ClusterContrastiveLoss(preset, temperature, threshold)
        self.weight = weight

    def views(self, output: Any) -> tuple[Tensor, Tensor]:
        """The embeddings of whole slices."""
        return super().views(output[0])

    def forward(self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        """The weighted sum for a batch.

        Args:
            output: embeddings of slices (2b, F), and of pixels (2b, D, H, W).
            target: groups (2b,), and where each pixel lies, as the loss of parts takes it.
        """
        whole, local = self.whole(output[0], target[0]), self.local(output[1], *target[self.told])
        one, other = self.whole.figures, self.local.figures
        chance, dropped = one["chance"] + self.weight * other["chance"], torch.minimum(one[DROPPED], other[DROPPED])
        terms = {"global_loss": whole.detach(), "local_loss": local.detach()}
        self.figures = {**one, "chance": chance, DROPPED: dropped, **terms}
        total: Tensor = whole + self.weight * local
        return total


class GlobalLocalLoss(_SlicesAndParts):
    """Both losses of GLCL added: that of slices, which teaches the encoder, and that of regions, for the decoder.

    Args:
        preset: of the loss of slices, as temperature and threshold in :class:`ContrastiveLoss`.
        temperature: of both.
        threshold: of positions.
        regions: as size and seed in :class:`LocalContrastiveLoss`, which is told the affines.
        size: of a region.
        seed: of the regions.
    """

    told = slice(1, None)

    def __init__(
        self,
        preset: str = "fn_elim",
        temperature: float = 0.1,
        threshold: float | None = None,
        regions: int = 13,
        size: int = 3,
        seed: int = 0,
    ) -> None:
        super().__init__(preset, temperature, threshold)
        self.local = LocalContrastiveLoss(regions, size, temperature, seed)


class GlobalCellLoss(_SlicesAndParts):
    """The loss of whole slices and, weighted, that of their cells, both by the same groups.

    Args:
        preset: as temperature and threshold in :class:`ContrastiveLoss`, of both.
        temperature: of both.
        threshold: of positions.
        grid: as cells and seed in :class:`CellContrastiveLoss`.
        cells: drawn for a batch.
        seed: of the cells.
        weight: of the cells' loss.
    """

    def __init__(
        self,
        preset: str = "ufc",
        temperature: float = 0.1,
        threshold: float | None = None,
        grid: int = 8,
        cells: int = 16,
        seed: int = 0,
        weight: float = 0.5,
    ) -> None:
        super().__init__(preset, temperature, threshold, weight)
        self.local = CellContrastiveLoss(preset, temperature, threshold, grid, cells, seed)


def _gathered(cells: Tensor, chosen: Tensor) -> Tensor:
    """Some of the cells (b, n, features) of each slice by their numbers (b, r): (b, r, features)."""
    return cells.gather(1, chosen[..., None].expand(-1, -1, cells.shape[2]))
