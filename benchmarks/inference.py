"""Seconds to segment a CT volume with stage 3's inference.json, beside the chain that model zoo bundles usually have.

    python benchmarks/inference.py [--size 512] [--slices 200] [--preset gpu] [--slices_at_once 16] [--rounds 3]

``bundle`` is inference.json as it runs. ``usual`` has the same crop and network, but MONAI's transforms one by one, its
SliceInferer with ``sw_batch_size`` 1 in fp32, ``Invertd`` of the logits, ``AsDiscreted`` and ``SaveImaged``. They take
turns, on a synthetic volume and with random weights. Prints medians, the peak of memory beyond mapped files, and a
RESULT line; its Dice is that of the bundle's mask with the one that it writes slice by slice in fp32.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet
from monai.transforms import CropForeground
from monai.transforms.croppad.dictionary import Cropd
from scipy.ndimage import gaussian_filter

from ufc_monai.artifacts.transfer import save_network
from ufc_monai.base.bundles import UNET
from ufc_monai.transforms.crop import BodyCrop

BUNDLE = Path(__file__).parents[1] / "bundles" / UNET
LABELS = {f"structure {i}": i for i in range(1, 8)}


class BodyForeground(CropForeground):
    """MONAI's crop, to the bundle's box."""

    def compute_bounding_box(self, img: Any) -> Any:
        """The box to crop to."""
        return BodyCrop().compute_bounding_box(img)


PLAIN = {
    "inferer": {
        "_target_": "SliceInferer",
        "roi_size": "$(@image_size, @image_size)",
        "spatial_dim": 2,
        "sw_batch_size": 1,
    }
}
USUAL = {
    **PLAIN,
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "ufc_monai.transforms.LoadVolumed", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            Cropd("image", BodyForeground()),
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": "$@trained_with['window'][0]",
                "a_max": "$@trained_with['window'][1]",
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "Resized", "keys": "image", "spatial_size": "$(@image_size, @image_size, -1)", "mode": "area"},
        ],
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_postfix": "seg",
                "separate_folder": False,
                "print_log": False,
            },
        ],
    },
}


class Memory(threading.Thread):
    """Watches how much memory the process takes at most, without mapped files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._end = 0, threading.Event()

    def run(self) -> None:
        """Look twenty times a second."""
        process = psutil.Process()
        while not self._end.wait(0.05):
            found = process.memory_info()
            self.peak = max(self.peak, found.rss - found.shared)

    def end(self) -> float:
        """The peak in GB."""
        self._end.set()
        self.join()
        return self.peak / 1e9


def make_inputs(folder: Path, options: argparse.Namespace) -> None:
    """A volume of smooth noise in Hounsfield units, and random weights with their network.json."""
    generator = np.random.default_rng(0)
    shape = (options.size, options.size, options.slices)
    volume = gaussian_filter(generator.standard_normal(shape, dtype=np.float32), (9, 9, 1))
    volume = (400 * volume / volume.std()).astype(np.int16)
    (folder / "data").mkdir()
    nib.save(nib.Nifti1Image(volume, np.diag([0.8, 0.8, 2, 1])), folder / "data" / "scan.nii.gz")
    train = ConfigParser()
    train.read_config([str(BUNDLE / "configs" / f"{n}.json") for n in ("train", *["cpu"][: options.preset == "cpu"])])
    architecture = {"features": train["features"], "norm": train["norm"], "in_channels": 1, "out_channels": 8}
    torch.manual_seed(0)
    network = BasicUNet(spatial_dims=2, **architecture)
    size = options.image_size or train["image_size"]
    preprocessing = {"image_size": size, "window": train["window"], "region": None, "standardise": False}
    record = {"stage": UNET, "architecture": architecture, "preprocessing": preprocessing, "labels": LABELS}
    save_network(folder / "models", network.state_dict(), record)


def load_weights(parser: ConfigParser) -> None:
    """Do that step of a bundle's ``run``, wherever it stands."""
    place = next(i for i, step in enumerate(parser["run"]) if "load_weights" in step)
    parser.get_parsed_content(f"run#{place}")


def segment(folder: Path, name: str, options: argparse.Namespace, changes: dict[str, Any]) -> tuple[float, float]:
    """Seconds and GB that one chain takes, its parts being built beforehand."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / "inference.json"))
    keys = {"bundle_root": BUNDLE, "dataset_dir": folder / "data", "output_dir": folder / name}
    parser.update({**{key: str(value) for key, value in keys.items()}, "ckpt_dir": str(folder / "models")})
    parser.update({"threads": options.threads, "device": f"$torch.device('{options.device}')", **changes})
    parser.update({"handlers": []})
    parser.get_parsed_content("initialize")
    evaluator = parser.get_parsed_content("evaluator")
    load_weights(parser)
    memory = Memory()
    memory.start()
    began = time.perf_counter()
    evaluator.run()
    return time.perf_counter() - began, memory.end()


def agreement(folder: Path) -> float:
    """The mean Dice between both masks over the classes that occur."""
    one, other = (
        np.asarray(nib.load(next((folder / name).rglob("*_seg.nii.gz"))).dataobj) for name in ("bundle", "plain")
    )
    shares = [
        2 * np.sum((one == i) & (other == i)) / (np.sum(one == i) + np.sum(other == i))
        for i in range(8)
        if np.any(one == i) or np.any(other == i)
    ]
    return float(np.mean(shares))


def main() -> None:
    """Measure in turns and print medians, ratio and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="gpu")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--slices_at_once", type=int, help="in place of the bundle's rule")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    rule = {} if options.slices_at_once is None else {"slices_at_once": options.slices_at_once}
    found: dict[str, list[tuple[float, float]]] = {"bundle": [], "usual": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_inputs(folder, options)
        for _ in range(options.rounds):
            for name, changes in (("bundle", rule), ("usual", USUAL)):
                found[name].append(segment(folder, name, options, changes))
        segment(folder, "plain", options, PLAIN)
        dice = agreement(folder)
    seconds = {name: statistics.median(s for s, _ in runs) for name, runs in found.items()}
    for name, runs in found.items():
        print(f"{name:<7} {seconds[name]:7.1f} s, at most {max(gb for _, gb in runs):.2f} GB")
    ratio = seconds["usual"] / seconds["bundle"]
    print(f"RESULT bundle={seconds['bundle']:.2f} usual={seconds['usual']:.2f} ratio={ratio:.2f} dice={dice:.5f}")


if __name__ == "__main__":
    main()
