"""Classes that are one piece in every labelled volume."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest

from ufc_monai.data.slices import SliceDataset
from ufc_monai.data.store import write_entry


def dataset(folder: Path, *volumes: np.ndarray) -> SliceDataset:
    """One of volumes (H, W, D)."""
    found = SliceDataset.__new__(SliceDataset)
    found.entries = []
    for k, volume in enumerate(volumes):
        place = folder / str(k)
        place.mkdir()
        items = [{"id": f"{k}#{i}"} for i in range(volume.shape[-1])]
        label = np.moveaxis(volume, -1, 0)[:, None].astype(np.uint8)
        found.entries.append(write_entry(place, items, {"label": label}))
    return found


def volume(*boxes: tuple[int, slice]) -> np.ndarray:
    label = np.zeros((30, 6, 4), dtype=np.uint8)
    for c, rows in boxes:
        label[rows, 1:5, 1:3] = c
    return label


def test_what_is_one_piece_in_every_volume_that_has_it(tmp_path: Path) -> None:
    whole = volume((1, slice(0, 5)), (2, slice(6, 9)), (3, slice(10, 20)))
    parted = volume((1, slice(0, 5)), (2, slice(6, 9)), (2, slice(25, 28)), (255, slice(11, 13)))
    parted[29, 0, 0] = 1  # a voxel is no second piece
    assert dataset(tmp_path, whole, parted).connected_classes(6) == [1, 3]


def test_pictures_have_no_pieces_to_keep(tmp_path: Path) -> None:
    assert dataset(tmp_path, volume((1, slice(0, 5)))[..., 1:2]).connected_classes(3) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_no_file_stays_open(tmp_path: Path) -> None:
    slices, limits = dataset(tmp_path, *[volume((1, slice(0, 5)))] * 60), resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, limits[1]))
        assert slices.connected_classes(2) == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
