"""How long until the first optimiser step of ``python -m monai.bundle run`` on a built slice store?

    python benchmarks/start.py [--dataset_dir DIR] [--labels ...] [--preset cpu] [--rounds 5]

Every stage is started as a user starts it and stopped behind its first step; starts take turns. Beside them stand two
floors, also from the start of the interpreter: ``import`` is that of MONAI and ignite, ``optimizer`` makes an AdamW as
well, with which PyTorch imports its compiler. Prints medians of the seconds, of the seconds that processors worked, and
a RESULT line. Without ``--dataset_dir`` synthetic patients are made. Stage 2 is SimCLR, which needs no stage 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE

SOURCE = Path(__file__).parents[1] / "bundles"
BEGIN = "import sys, time; began = float(sys.argv.pop(1))"
TELL = "print('AFTER', time.time() - began, time.process_time(), flush=True)"
FLOORS = {
    "import": f"{BEGIN}; import monai, ignite; {TELL}",
    "optimizer": f"{BEGIN}; import monai, ignite, torch; torch.optim.AdamW([torch.zeros(1)]); {TELL}",
}
STAGE = f"""
{BEGIN}
import os, runpy
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    {TELL}
    os._exit(0)

register_optimizer_step_post_hook(stop)
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""


def measure(program: str, words: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of work, from the start of a process to where it tells them."""
    command = [sys.executable, "-W", "ignore", "-c", program, str(time.time()), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith("AFTER")]
    if not told:
        raise SystemExit(f"a start failed:\n{done.stdout}\n{done.stderr}")
    _, seconds, work = told[0].split()
    return float(seconds), float(work)


def words_of(folder: Path, name: str, options: argparse.Namespace) -> list[str]:
    """The command line of a stage, behind ``python -m monai.bundle``."""
    presets = ["train", *(["cpu"] if options.preset == "cpu" else [])]
    keys: dict[str, Any] = {"bundle_root": folder / name, "dataset_dir": options.dataset_dir, "device": options.device}
    keys |= {"config_file": [str(folder / name / "configs" / f"{preset}.json") for preset in presets]}
    keys |= {
        CONTRASTIVE: {"loss_preset": "simclr", "pseudo_labels_path": "none"},
        UNET: {"pretrained_path": "none"},
    }.get(name, {})
    if name == UNET and options.labels:
        keys["labels"] = options.labels
    if options.threads:
        keys["threads"] = options.threads
    return ["run", *(word for key, value in keys.items() for word in (f"--{key}", str(value)))]


def main() -> None:
    """Measure in turns; print medians and one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=os.path.abspath)
    parser.add_argument("--labels")
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*FLOORS, VAE, CONTRASTIVE, UNET)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if options.dataset_dir is None:
            from ufc_monai.phantom.ct import make_phantom

            options.dataset_dir = str(folder / "phantom")
            make_phantom(options.dataset_dir, patients=8, matrix=128)
        for name in BUNDLES:
            shutil.copytree(SOURCE / name / "configs", folder / name / "configs")
            measure(STAGE, words_of(folder, name, options))  # builds the store
        for _ in range(options.rounds):
            for name, runs in found.items():
                words = words_of(folder, name, options) if name in BUNDLES else []
                runs.append(measure(FLOORS.get(name, STAGE), words))
    result = []
    for name, runs in found.items():
        seconds, work = (median(values) for values in zip(*runs, strict=True))
        floor = median(run[0] for run in found["import"])
        print(f"{name:<25} {seconds:6.2f} s, {seconds / floor:.2f} of the import; {work:.2f} s of work")
        result.append(f"{name}_s={seconds:.2f} {name}_work_s={work:.2f}")
    print("RESULT " + " ".join(result))


if __name__ == "__main__":
    main()
