"""Do masks in bf16 agree with those in float32, with trained weights? And what would have to stay in float32?

    python benchmarks/precision.py RUN [--fold 0] [--role validation] [--volumes 6] [--layers True] [--threads 1]

RUN is the folder of a run whose stage 3 has been fine-tuned. Stage 3's inference.json segments volumes of patients that
it was not fine-tuned on, in float32, in bf16, and with ``--layers`` in bf16 but for one layer after the other. Prints
the seconds of each and its Dice with the masks in float32 over structures and volumes, mean and least, and a RESULT
line.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from inference import load_weights
from monai.bundle import ConfigParser
from torch import Tensor, nn

from ufc_monai.base.bundles import UNET
from ufc_monai.base.chain import SPLIT
from ufc_monai.base.files import read_json
from ufc_monai.base.rounds import data_set_of_run


def keep_in_float32(layer: nn.Module, device: str) -> None:
    """Have a layer compute in float32 under autocast."""
    compute = layer.forward

    def forward(*inputs: Tensor | None) -> Tensor:
        with torch.autocast(device, enabled=False):
            result: Tensor = compute(*(None if x is None else x.float() for x in inputs))
        return result

    layer.forward = forward


def segment(options: argparse.Namespace, images: list[str], output: Path, precision: str, kept: str = "") -> float:
    """Seconds to write the masks of some images, with one layer in float32 or none."""
    bundle, data = options.run / UNET, data_set_of_run(options.run)
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.json"))
    parser.update({"bundle_root": str(bundle), "dataset_dir": str(data), "output_dir": str(output), "handlers": []})
    parser.update({"precision": precision, "threads": options.threads})
    parser.update({"device": f"$torch.device('{options.device}')"})
    parser.update({"dataset::data": [{"image": str(data / image)} for image in images]})
    parser.get_parsed_content("initialize")
    evaluator = parser.get_parsed_content("evaluator")
    load_weights(parser)
    if kept:
        keep_in_float32(evaluator.network.get_submodule(kept), torch.device(options.device).type)
    began = time.perf_counter()
    evaluator.run()
    return time.perf_counter() - began


def dice(one: Path, other: Path) -> list[float]:
    """Of each structure of each mask that is in either folder."""
    found = []
    for path in sorted(one.rglob("*.nii.gz")):
        a, b = (np.asarray(nib.load(p).dataobj) for p in (path, other / path.relative_to(one)))
        for i in np.union1d(a, b)[1:]:
            found.append(float(2 * np.sum((a == i) & (b == i)) / (np.sum(a == i) + np.sum(b == i))))
    return found


def main() -> None:
    """Segment in each precision; print a table and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--role", choices=("validation", "test"), default="validation")
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--layers", type=lambda text: text == "True", default=False)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    split = read_json(options.run / SPLIT, "RUN")
    patients = split["folds"][options.fold][options.role]
    images = [name for name, facts in split["images"].items() if facts["patient"] in patients][: options.volumes]
    widths = read_json(options.run / UNET / "models" / "network.json", "RUN")["architecture"]["features"]
    print(f"{len(images)} volumes, widths {widths}, {torch.backends.cpu.get_cpu_capability()}")
    layers = ["conv_0", *(f"down_{i}" for i in range(1, 5)), *(f"upcat_{i}" for i in range(4, 0, -1)), "final_conv"]
    result = []
    with tempfile.TemporaryDirectory() as place:
        reference = Path(place, "fp32")
        print(f"{'fp32':<12} {segment(options, images, reference, 'fp32'):7.1f} s", flush=True)
        for kept in ["", *(layers if options.layers else [])]:
            masks = Path(place, f"bf16{kept}")
            seconds, name = segment(options, images, masks, "bf16", kept), f"not_{kept}" if kept else "bf16"
            shares = dice(reference, masks)
            print(f"{name:<14} {seconds:7.1f} s, Dice {np.mean(shares):.5f}, at least {min(shares):.5f}", flush=True)
            result.append(f"{name}={np.mean(shares):.5f}")
    print("RESULT", *result)


if __name__ == "__main__":
    main()
