from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from ufc_monai.engines import StructureTable
from ufc_monai.engines.structures import StructureRow, hd95, pooled_dice

SPACING = (0.8, 0.8, 3.0)


def block(start: int, stop: int, shape: tuple[int, ...] = (20, 20, 12)) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[start:stop, 4:15, 3:9] = True
    return mask


def slow_hd95(one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: tuple[float, ...]) -> float:
    a, b = (np.argwhere(mask & ~binary_erosion(mask)) * spacing for mask in (one, other))
    distances = cdist(a, b)
    return float(max(np.percentile(distances.min(axis=0), 95), np.percentile(distances.min(axis=1), 95)))


@pytest.mark.parametrize(("start", "stop"), [(2, 12), (5, 15), (2, 18), (7, 8)])
def test_hd95_is_that_of_a_slow_oracle(start: int, stop: int) -> None:
    p, r = block(start, stop), block(2, 12)
    found = hd95(torch.from_numpy(p), torch.from_numpy(r), SPACING)
    assert found == pytest.approx(slow_hd95(p, r, SPACING), abs=1e-4)


def test_a_picture_has_an_outline_not_two_faces() -> None:
    p, r = (np.zeros((30, 30, 1), bool) for _ in range(2))
    r[5:25, 5:25], p[9:21, 9:21] = True, True
    found = hd95(torch.from_numpy(p), torch.from_numpy(r), (1.0, 1.0, 1.0))
    assert found == pytest.approx(slow_hd95(p[..., 0], r[..., 0], (1.0, 1.0)), abs=1e-4)
    assert found is not None
    assert found >= 4


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_no_distance_to_nothing(which: tuple[bool, bool]) -> None:
    p, r = (torch.zeros(20, 20, 12) if empty else torch.from_numpy(block(2, 9)) for empty in which)
    assert hd95(p, r, SPACING) is None


def test_pooled_dice_counts_voxels_over_volumes() -> None:
    rows = [StructureRow("a", "x", None, None, 30, 40, 50), StructureRow("b", "x", None, None, 0, 10, 0)]
    assert pooled_dice(rows) == pytest.approx(2 * 30 / 100)
    assert pooled_dice(rows[1:]) is None


def test_table_of_two_volumes(tmp_path: Path) -> None:
    """Structure 2 is missed in the first volume, and absent from the second, where it is predicted."""
    here, away, nothing = block(2, 12), block(5, 15), np.zeros((20, 20, 12), bool)
    pairs = {"below/a.nii.gz": ([here, nothing], [here, away]), "b.nii.gz": ([away, here], [here, nothing])}
    outputs = []
    for name, masks in pairs.items():
        pred, label = (torch.from_numpy(np.stack([nothing, *m])).float() for m in masks)
        meta = {"filename_or_obj": str(tmp_path / name)}
        affine = torch.diag(torch.tensor([*SPACING, 1.0]))
        item = {"pred": pred, "label": MetaTensor(label, affine=affine), "image": MetaTensor(pred, meta=meta)}
        outputs.append([item])
    engine = Engine(lambda _engine, batch: outputs[batch])
    StructureTable(tmp_path, ["one", "two"], tmp_path).attach(engine)
    engine.run(range(2), max_epochs=1)
    with open(tmp_path / "structures.csv", newline="") as file:
        rows = {(row["volume"], row["structure"]): row for row in csv.DictReader(file)}
    assert rows["below/a.nii.gz", "one"]["dice"] == "1.0"
    assert rows["below/a.nii.gz", "one"]["hd95_mm"] == "0.0"
    assert (rows["below/a.nii.gz", "two"]["dice"], rows["below/a.nii.gz", "two"]["hd95_mm"]) == ("0.0", "")
    assert (rows["b.nii.gz", "two"]["dice"], rows["b.nii.gz", "two"]["hd95_mm"]) == ("", "")
    assert float(rows["b.nii.gz", "one"]["hd95_mm"]) == pytest.approx(slow_hd95(away, here, SPACING), abs=1e-4)
    metrics = engine.state.metrics
    assert (metrics["hd95_defined"], metrics["structures_present"]) == (2, 3)
    size = here.sum()
    both = (here & away).sum()
    assert metrics["pooled_dice"] == pytest.approx(((size + both) / (2 * size) + 0) / 2)
