from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import DiceMetric
from monai.transforms import AsDiscrete
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from torch.profiler import ProfilerActivity, profile

from ufc_monai.base.tables import read_table
from ufc_monai.evaluation.structures import (
    StructureRow,
    StructureTable,
    hd95,
    pooled_dice,
    structure_rows,
    surface_dice,
)

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


@pytest.mark.parametrize(("start", "stop"), [(2, 12), (5, 15), (2, 18), (7, 8)])
def test_surface_dice_is_that_of_a_slow_oracle(start: int, stop: int) -> None:
    p, r = block(start, stop), block(2, 12)
    a, b = (np.argwhere(mask & ~binary_erosion(mask)) * SPACING for mask in (p, r))
    distances = cdist(a, b)
    near = (distances.min(axis=1) <= 2).sum() + (distances.min(axis=0) <= 2).sum()
    found = surface_dice(torch.from_numpy(p), torch.from_numpy(r), SPACING)
    assert found == pytest.approx(near / (len(a) + len(b)), abs=1e-6)


def test_surface_dice_of_what_is_missed_and_of_what_there_is_not() -> None:
    here, nothing = torch.from_numpy(block(2, 9)), torch.zeros(20, 20, 12)
    assert surface_dice(nothing, here, SPACING) == 0
    assert surface_dice(here, nothing, SPACING) is None
    assert surface_dice(nothing, nothing, SPACING) is None


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
def test_no_distance_to_nothing(which: tuple[bool, bool]) -> None:
    p, r = (torch.zeros(20, 20, 12) if empty else torch.from_numpy(block(2, 9)) for empty in which)
    assert hd95(p, r, SPACING) is None


def test_pooled_dice_counts_voxels_over_volumes() -> None:
    rows = [
        StructureRow(volume, "x", None, None, None, *voxels)
        for volume, voxels in {"a": (30, 40, 50), "b": (0, 10, 0)}.items()
    ]
    assert pooled_dice(rows) == pytest.approx(2 * 30 / 100)
    assert pooled_dice(rows[1:]) is None


@pytest.mark.parametrize("seed", range(5))
def test_dice_of_class_maps_is_that_of_one_hot(seed: int) -> None:
    """MONAI's metric of one-hot volumes is the oracle."""
    rng = np.random.default_rng(seed)
    maps = torch.from_numpy(rng.integers(0, 5, (2, 1, 1, 9, 8, 7), dtype=np.uint8))
    maps[1, 0, 0][maps[1, 0, 0] == 4] = 0  # absent from the reference
    onehot = [AsDiscrete(to_onehot=5)(m[0])[None] for m in maps]
    expected = DiceMetric(include_background=False, reduction="none")(*onehot)[0]
    rows = structure_rows("a", list("abcd"), maps[0, 0, 0], maps[1, 0, 0], SPACING)
    assert [row.dice for row in rows] == [pytest.approx(d, abs=1e-6) if d == d else None for d in expected.tolist()]


def test_a_structure_takes_a_few_bytes_a_voxel() -> None:
    """Neither one-hot volumes, nor int64 or float copies of whole ones: a structure is two masks and their overlap."""
    predicted, reference = (torch.zeros(128, 128, 64, dtype=torch.uint8) for _ in range(2))
    predicted[3:9, 3:9, 3:9], reference[4:9, 4:9, 4:9] = 14, 14
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        structure_rows("a", list(map(str, range(14))), predicted, reference, SPACING)
    largest = max(event.self_cpu_memory_usage / event.count for event in recorded.key_averages())
    assert largest <= predicted.numel()


def test_table_of_two_volumes(tmp_path: Path) -> None:
    """Structure 2 is missed in the first volume, and absent from the second, where it is predicted."""
    here, away, other, nothing = (m.astype(np.uint8) for m in (block(2, 12), block(5, 15), block(16, 19), block(0, 0)))
    pairs = {"below/a.nii.gz": ([here, nothing], [here, other]), "b.nii.gz": ([away, other], [here, nothing])}
    outputs = []
    for name, masks in pairs.items():
        pred, label = (torch.from_numpy(one + 2 * two)[None] for one, two in masks)
        meta = {"filename_or_obj": str(tmp_path / name)}
        affine = torch.diag(torch.tensor([*SPACING, 1.0]))
        item = {"pred": pred, "label": MetaTensor(label, affine=affine), "image": MetaTensor(pred, meta=meta)}
        outputs.append([item])
    engine = Engine(lambda _engine, batch: outputs[batch])
    StructureTable(tmp_path, ["one", "two"], tmp_path).attach(engine)
    engine.run(range(2), max_epochs=1)
    rows = {(row["volume"], row["structure"]): row for row in read_table(tmp_path / "structures.csv")}
    assert rows["below/a.nii.gz", "one"]["dice"] == "1.0"
    assert rows["below/a.nii.gz", "one"]["hd95_mm"] == "0.0"
    assert (rows["below/a.nii.gz", "two"]["dice"], rows["below/a.nii.gz", "two"]["hd95_mm"]) == ("0.0", "")
    assert [rows["below/a.nii.gz", name]["surface_dice_2mm"] for name in ("one", "two")] == ["1.0", "0.0"]
    assert (rows["b.nii.gz", "two"]["dice"], rows["b.nii.gz", "two"]["hd95_mm"]) == ("", "")
    assert float(rows["b.nii.gz", "one"]["hd95_mm"]) == pytest.approx(slow_hd95(away > 0, here > 0, SPACING), abs=1e-4)
    metrics = engine.state.metrics
    assert (metrics["hd95_defined"], metrics["structures_present"]) == (2, 3)
    size = here.sum()
    both = (here & away).sum()
    half = both / size
    assert [tuple(row.values()) for row in read_table(tmp_path / "dice.csv")] == [
        ("below/a.nii.gz", "0.500000", "1.000000", "0.000000"),
        ("b.nii.gz", f"{half:.6f}", f"{half:.6f}", ""),
    ]
    assert metrics["mean_dice"] == pytest.approx((0.5 + half) / 2)
    assert (metrics["dice_one"], metrics["dice_two"]) == (pytest.approx((1 + half) / 2), 0)
    assert metrics["pooled_dice"] == pytest.approx(((size + both) / (2 * size) + 0) / 2)
