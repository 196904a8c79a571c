"""Every structure of every test volume: Dice, distances of the surfaces, and the voxels that pooled Dice is made of."""

from __future__ import annotations

import logging
import math
import os
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from ignite.engine import Engine
from monai.data.utils import affine_to_spacing
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.transforms.utils import generate_spatial_bounding_box
from torch import Tensor

from ufc_monai.base.ranks import Handler
from ufc_monai.base.tables import write_table
from ufc_monai.evaluation.dice import mean_over_present, structure_means
from ufc_monai.report.page import aligned
from ufc_monai.transforms.labels import Overlap

logger = logging.getLogger(__name__)

TOLERANCE = 2.0
"""Millimetres by which surfaces may differ in the surface Dice; pixels for pictures."""


class StructureRow(NamedTuple):
    """One structure of one volume, on the volume's own grid.

    Attributes:
        volume: the image's path relative to the data set's folder.
        structure: its name.
        dice: in [0, 1]; ``None`` where the reference does not hold the structure.
        hd95_mm: 95th percentile of the distances between the surfaces, the larger of the two directions, in the unit
            of the grid's spacing (mm; pixels for pictures); ``None`` where reference or prediction lacks the structure.
        surface_dice_2mm: the share of both surfaces that lies within 2 of that unit of the other one, in [0, 1];
            ``None`` where the reference does not hold the structure.
        intersection: voxels of both.
        predicted: voxels of the prediction.
        reference: voxels of the reference.
    """

    volume: str
    structure: str
    dice: float | None
    hd95_mm: float | None
    surface_dice_2mm: float | None
    intersection: int
    predicted: int
    reference: int


@dataclass(eq=False)
class StructureTable(Handler):
    """Write ``structures.csv``, one row a volume and structure, and ``dice.csv``, one row a volume, and log the means.

    It reads the class maps ``pred`` and ``label`` of an evaluator whose batches are single volumes, (1, H, W, D), and
    keeps the mean Dice of the latest as ``mean_dice``. Means are taken over the structures present in a volume, then
    over volumes. Empty cells are not defined.

    Args:
        output_dir: folder of the tables.
        names: names of the classes 1..n.
        root: folder of the data set, which volumes are named relative to.
    """

    output_dir: str | os.PathLike[str]
    names: Sequence[str]
    root: str | os.PathLike[str]

    def _started(self, engine: Engine) -> None:
        self._rows: list[StructureRow] = []
        self._dice: dict[str, list[float | None]] = {}

    def _iteration_completed(self, engine: Engine) -> None:
        (item,) = engine.state.output
        name = Path(os.path.relpath(item["image"].meta["filename_or_obj"], self.root)).as_posix()
        predicted, reference = (torch.as_tensor(item[key])[0].cpu() for key in ("pred", "label"))
        spacing = affine_to_spacing(item["label"].affine).tolist()
        rows = structure_rows(name, self.names, predicted, reference, spacing)
        self._rows += rows
        self._dice[name] = [row.dice for row in rows]
        self.mean_dice = mean_over_present([self._dice[name]])

    def _completed(self, engine: Engine) -> None:
        self._write_dice(engine, Path(self.output_dir, "dice.csv"))
        path = Path(self.output_dir, "structures.csv")
        rows = (row._replace(dice=row.dice and round(row.dice, 6)) for row in self._rows)
        write_table(path, [StructureRow._fields, *rows])
        distances = [row.hd95_mm for row in self._rows if row.hd95_mm is not None]
        present = sum(row.reference > 0 for row in self._rows)
        pooled = [pooled_dice([row for row in self._rows if row.structure == name]) for name in self.names]
        known = [dice for dice in pooled if dice is not None]
        engine.state.metrics |= {"hd95_defined": len(distances), "structures_present": present}
        means = {"mean_hd95_mm": distances, "pooled_dice": known}
        engine.state.metrics |= {name: statistics.fmean(values) for name, values in means.items() if values}
        logger.info("HD95 is defined for %d of the %d structures present (%s)", len(distances), present, path)

    def _write_dice(self, engine: Engine, path: Path) -> None:
        volumes = {name: [mean_over_present([dice]), *dice] for name, dice in self._dice.items()}
        rows = ([name, *map(_six_digits, cells)] for name, cells in volumes.items())
        write_table(path, [["volume", "mean", *self.names], *rows])
        means = structure_means(self.names, self._dice.values())
        mean = engine.state.metrics["mean_dice"] = mean_over_present(self._dice.values())
        engine.state.metrics |= {f"dice_{name}": value for name, value in means.items()}
        lines = aligned([(name, f"{value:.3f}") for name, value in means.items()])
        logger.info("Dice of %d volumes (%s)\n%s", len(volumes), path, lines)
        logger.info("mean Dice per volume %.3f", mean)


def _six_digits(dice: float | None) -> str:
    return "" if dice is None or math.isnan(dice) else f"{dice:.6f}"


def hd95(predicted: Tensor, reference: Tensor, spacing: Sequence[float]) -> float | None:
    """The 95 % Hausdorff distance of two masks.

    Args:
        predicted: (H, W[, D]), anything but 0 is inside.
        reference: of the same shape.
        spacing: of the grid, one number an axis.

    Returns:
        In the unit of the spacing; ``None`` if either mask is empty: no distance is known there, least of all 0.
    """
    if not predicted.any() or not reference.any():
        return None
    *masks, spacing = _around(predicted, reference, spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI's own use of an argument that it has deprecated
        return float(compute_hausdorff_distance(*masks, True, percentile=95, spacing=spacing))


def surface_dice(predicted: Tensor, reference: Tensor, spacing: Sequence[float]) -> float | None:
    """The share of two surfaces that lies within :data:`TOLERANCE` of the other one.

    Args:
        predicted: as of :func:`hd95`.
        reference: of the same shape.
        spacing: of the grid, one number an axis.

    Returns:
        In [0, 1]; ``None`` if the reference is empty.
    """
    if not predicted.any() or not reference.any():
        return 0.0 if reference.any() else None
    *masks, spacing = _around(predicted, reference, spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as above
        return float(compute_surface_dice(*masks, [TOLERANCE], include_background=True, spacing=spacing))


def _around(predicted: Tensor, reference: Tensor, spacing: Sequence[float]) -> tuple[Tensor, Tensor, list[float]]:
    """Two masks (1, 1, H, W[, D]) in the box around both, and the spacing."""
    if predicted.shape[-1] == 1:  # a picture: its surface is the outline
        predicted, reference, spacing = predicted[..., 0], reference[..., 0], spacing[:-1]
    predicted, reference = predicted.bool(), reference.bool()
    # MONAI crops as well, but only after it has made floats of all
    start, end = generate_spatial_bounding_box((predicted | reference)[None])
    box = tuple(map(slice, start, end))
    return predicted[box][None, None], reference[box][None, None], list(map(float, spacing))


def pooled_dice(rows: Sequence[StructureRow]) -> float | None:
    """Dice of all voxels of all volumes together; ``None`` where no reference holds anything."""
    if not any(row.reference for row in rows):
        return None
    both = sum(row.intersection for row in rows)
    return 2 * both / sum(row.predicted + row.reference for row in rows)


def structure_rows(
    volume: str, names: Sequence[str], predicted: Tensor, reference: Tensor, spacing: Sequence[float]
) -> list[StructureRow]:
    """Measure one volume, one structure at a time.

    Args:
        volume: its name.
        names: names of the classes 1..n.
        predicted: class map, (H, W, D).
        reference: class map of the same shape.
        spacing: of the grid, one number an axis.
    """
    rows = []
    for index, name in enumerate(names, start=1):
        p, r = predicted == index, reference == index
        overlap = Overlap.of(p, r)
        distance, near = hd95(p, r, spacing), surface_dice(p, r, spacing)
        figures = (distance and round(distance, 4), near and round(near, 6))
        rows.append(StructureRow(volume, name, overlap.dice, *figures, *overlap))
    return rows
