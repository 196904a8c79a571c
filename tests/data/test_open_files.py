"""The slice store holds no file open, however many volumes there are."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ufc_monai.data.store import StoreEntry
from ufc_monai.errors import InputError

N = 300
READ_ALL = """
import os, resource, sys
from pathlib import Path
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset
from ufc_monai.data.store import StoreEntry

class Slices(Dataset):
    def __init__(self, folders):
        self.places = [(entry, i) for entry in map(StoreEntry, folders) for i in range(len(entry))]
    def __len__(self):
        return len(self.places)
    def __getitem__(self, n):
        entry, i = self.places[n]
        return entry.sample(i)

most = len(os.listdir("/proc/self/fd")) + 64
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
slices = Slices(sorted(Path(sys.argv[1]).iterdir()))
loader = DataLoader(slices, batch_size=7, shuffle=True, num_workers=int(sys.argv[2]))
seen = [tuple(pair) for batch in loader for pair in zip(batch["image"].flatten(1)[:, 0].tolist(), batch["id"])]
assert sorted(seen) == sorted((10.0 * v + i, f"{v}#{i}") for v in range(300) for i in range(2)), seen[:5]
"""


def write_entry(folder: Path, number: int) -> StoreEntry:
    """Two slices of 4 x 4 pixels, which hold 10 * number and one more."""
    folder.mkdir()
    for key in ("image", "label"):
        array = np.full((2, 1, 4, 4), 10.0 * number, dtype=np.float32) + np.arange(2)[:, None, None, None]
        np.save(folder / f"{key}.npy", array.astype(np.float32))
    meta = {"keys": ["image", "label"], "items": [{"id": f"{number}#{i}"} for i in range(2)]}
    (folder / "entry.json").write_text(json.dumps(meta))
    return StoreEntry(folder)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
@pytest.mark.parametrize("workers", [0, 2])
def test_more_volumes_than_files_may_be_open(tmp_path: Path, workers: int) -> None:
    for number in range(N):
        write_entry(tmp_path / f"v{number:03d}", number)
    program = [sys.executable, "-W", "ignore", "-c", READ_ALL, str(tmp_path), str(workers)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    entry, limits = write_entry(tmp_path / "entry", 1), resource.getrlimit(resource.RLIMIT_NOFILE)
    fresh = StoreEntry(tmp_path / "entry")
    entry.sample(0)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        for tried in (entry, fresh):
            with pytest.raises(
                InputError, match=r"image\.npy cannot be opened \(Too many open files\).*ulimit -n"
            ) as e:
                tried.sample(1)
            assert "Delete" not in str(e.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_file_that_ends_too_early_is_damaged(tmp_path: Path) -> None:
    entry = write_entry(tmp_path / "entry", 1)
    entry.sample(0)
    path = tmp_path / "entry" / "label.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert entry.sample(0)["label"].max() == 10
    with pytest.raises(InputError, match=r"label\.npy is gone or damaged .*Delete the folder"):
        entry.sample(1)
    path.unlink()
    with pytest.raises(InputError, match=r"label\.npy is gone or damaged .*Delete the folder"):
        entry.sample(0)
