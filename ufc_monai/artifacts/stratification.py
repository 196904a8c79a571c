"""Patients compared, as a table and a map beside the clusters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.tables import write_table
from ufc_monai.clustering.patients import Stratification, stratify
from ufc_monai.report.patients import save_patient_map


def save_patients(
    table: Path,
    labels: NDArray[np.int64],
    patients: Sequence[str],
    positions: NDArray[np.float64],
    thumbnails: NDArray[np.uint8],
    n_clusters: int,
) -> None:
    """Write the table and, beside it, the map, on which each patient's middle slice stands.

    Args:
        table: the CSV; the map has its name and ends with ``.png``.
        labels: the cluster of each slice, (n,).
        patients: whose they are, (n,).
        positions: in their volume, in [0, 1], (n,).
        thumbnails: small pictures, (n, h, w) or (n, h, w, 3).
        n_clusters: how many.
    """
    found = stratify(labels, patients, n_clusters)
    write_table(table, _rows(found))
    middle: dict[str, int] = {}
    for i in np.argsort(-np.abs(positions - 0.5), kind="stable").tolist():
        middle[patients[i]] = i  # the last one is nearest to the middle
    pictures = thumbnails[[middle[name] for name in found.names]]
    save_patient_map(table.with_suffix(".png"), found.points, pictures, found.names)


def _rows(found: Stratification) -> list[list[object]]:
    k, near = found.shares.shape[1], range(1, found.nearest.shape[1] + 1)
    like = [name for i in near for name in (f"nearest_{i}", f"distance_{i}")]
    rows: list[list[object]] = [["patient", "slices", "group", *(f"cluster_{c}" for c in range(k)), *like]]
    for i, name in enumerate(found.names):
        pairs = zip(found.nearest[i].tolist(), found.distances[i].tolist(), strict=True)
        others = [value for j, distance in pairs for value in (found.names[j], f"{distance:.4f}")]
        shares = [f"{share:.4f}" for share in found.shares[i]]
        rows.append([name, found.sizes[i], found.groups[i], *shares, *others])
    return rows
