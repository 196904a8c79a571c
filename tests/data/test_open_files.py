"""The slice store holds no file open, however many volumes there are."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ufc_monai.base.errors import InputError
from ufc_monai.data.store import StoreEntry, write_entry

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


def entry_of(folder: Path, number: int) -> StoreEntry:
    """Two slices of 4 x 4 pixels, which hold 10 * number and one more."""
    folder.mkdir()
    array = np.full((2, 1, 4, 4), 10.0 * number, dtype=np.float32) + np.arange(2)[:, None, None, None]
    arrays = dict.fromkeys(("image", "label"), array.astype(np.float32))
    return write_entry(folder, [{"id": f"{number}#{i}"} for i in range(2)], arrays)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
@pytest.mark.parametrize("workers", [0, 2])
def test_more_volumes_than_files_may_be_open(tmp_path: Path, workers: int) -> None:
    for number in range(N):
        entry_of(tmp_path / f"v{number:03d}", number)
    program = [sys.executable, "-W", "ignore", "-c", READ_ALL, str(tmp_path), str(workers)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    entry, limits = entry_of(tmp_path / "entry", 1), resource.getrlimit(resource.RLIMIT_NOFILE)
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
    entry = entry_of(tmp_path / "entry", 1)
    entry.sample(0)
    path = tmp_path / "entry" / "label.npy"
    path.write_bytes(path.read_bytes()[:-1])
    assert entry.sample(0)["label"].max() == 10
    with pytest.raises(InputError, match=r"label\.npy is gone or damaged .*Delete the folder"):
        entry.sample(1)
    path.unlink()
    with pytest.raises(InputError, match=r"label\.npy is gone or damaged .*Delete the folder"):
        entry.sample(0)


def test_a_pixel_that_has_changed_is_damage(tmp_path: Path) -> None:
    entry = entry_of(tmp_path / "entry", 1)
    path = tmp_path / "entry" / "image.npy"
    written = bytearray(path.read_bytes())
    written[-3] ^= 1
    path.write_bytes(written)
    assert entry.sample(0)["image"].max() == 10
    for read in (lambda: entry.sample(1), lambda: entry.array("image")):
        with pytest.raises(InputError, match=r"image\.npy is gone or damaged \(the checksum of slice 1 differs\)"):
            read()


def test_so_is_a_slice_that_is_called_otherwise(tmp_path: Path) -> None:
    entry_of(tmp_path / "entry", 1)
    path = tmp_path / "entry" / "entry.json"
    path.write_text(path.read_text().replace('{"id": "1"}', '{"id": "2"}'))
    with pytest.raises(InputError, match=r"entry\.json is gone or damaged \(its seal differs\)"):
        StoreEntry(tmp_path / "entry")
