"""How quickly the slice store is built, beside how quickly its volumes can be read and decompressed at all.

    python benchmarks/store.py [--volumes 8] [--slices 60] [--image_size 128] [--workers N] [--rounds 3]

Synthetic volumes of 512 x 512 x ``--slices`` int16 voxels in ``.nii.gz``, with the noise of a scanner, which decides
how well they compress. ``build`` is stage 1's ``SliceDataset`` on an empty store, ``read`` the same files read by
nibabel in as many processes; they take turns. Prints medians in MB of voxels a second and a RESULT line; its ratio is
build / read. ``--profile`` prints where the time of one volume goes instead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, apply_transform
from scipy.ndimage import gaussian_filter

from ufc_monai.base.bundles import VAE
from ufc_monai.data.slices import SliceDataset

CONFIG = Path(__file__).parents[1] / "bundles" / VAE / "configs" / "train.json"


def make_volumes(folder: Path, n: int, slices: int) -> list[str]:
    """A body of soft tissue with organs and noise, in air."""
    folder.mkdir()
    x, y = np.ogrid[-1:1:512j, -1:1:512j]
    body = ((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1)[..., None]
    names = []
    for i in range(n):
        rng = np.random.default_rng(i)
        organs = 60 + 120 * gaussian_filter(rng.standard_normal((64, 64, slices), dtype=np.float32), 3).repeat(
            8, axis=0
        ).repeat(8, axis=1)
        noise = gaussian_filter(rng.standard_normal((512, 512, slices), dtype=np.float32), (0.7, 0.7, 0)) * 40
        volume = np.where(body, organs, -1000) + noise
        names.append(str(folder / f"scan_{i}.nii.gz"))
        nib.save(nib.Nifti1Image(volume.round().astype(np.int16), np.diag([-0.8, -0.8, 2.5, 1])), names[-1])
    return names


def read(name: str) -> int:
    """Bytes of a volume's voxels, which it reads."""
    return np.asarray(nib.load(name).dataobj).nbytes


def transforms(folder: Path, image_size: int) -> Compose:
    """Stage 1's preprocessing."""
    parser = ConfigParser()
    parser.read_config(str(CONFIG))
    parser["image_size"], parser["dataset_dir"] = image_size, str(folder)
    return parser.get_parsed_content("train::preprocessing")


def profile(names: list[str], steps: Compose) -> None:
    """Milliseconds of work of each transform, the best of three volumes."""
    rows: dict[str, list[float]] = {"read alone": []}
    for name in names[:3]:
        began = time.process_time()
        read(name)
        rows["read alone"].append(time.process_time() - began)
        value: Any = {"image": name}
        for step in steps.transforms:
            began = time.process_time()
            value = apply_transform(step, value)
            rows.setdefault(type(step).__name__, []).append(time.process_time() - began)
    for name, seconds in rows.items():
        print(f"{name:<28} {1000 * min(seconds):8.1f} ms")


def main() -> None:
    """Measure in turns and print one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = make_volumes(folder / "data", options.volumes, options.slices)
        steps = transforms(folder / "data", options.image_size)
        if options.profile:
            return profile(names, steps)
        found: dict[str, list[float]] = {"build": [], "read": []}
        with ProcessPoolExecutor(options.workers) as pool:
            size = sum(pool.map(read, names)) / 1e6  # and the processes are there
            for _ in range(options.rounds):
                began = time.perf_counter()
                list(pool.map(read, names))
                found["read"].append(size / (time.perf_counter() - began))
                began = time.perf_counter()
                SliceDataset([{"image": name} for name in names], steps, folder / "cache")
                found["build"].append(size / (time.perf_counter() - began))
                shutil.rmtree(folder / "cache")
    rates = {name: statistics.median(rounds) for name, rounds in found.items()}
    for name, rate in rates.items():
        print(f"{name:<6} {rate:7.1f} MB/s, {rate / size * options.volumes:.2f} volumes/s")
    print(f"RESULT build={rates['build']:.1f} read={rates['read']:.1f} ratio={rates['build'] / rates['read']:.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
