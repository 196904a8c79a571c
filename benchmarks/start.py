"""How long until the first optimiser step of ``python -m monai.bundle run`` on a built slice store?

    python benchmarks/start.py [--dataset_dir DIR] [--labels ...] [--preset cpu] [--rounds 5]

Every stage is started as a user starts it, and as ``run`` starts its second and later stages (``forked``), and stopped
behind its first step; starts take turns. Beside them stand two floors, also from the start of the interpreter:
``import`` is that of MONAI and ignite, ``optimizer`` makes an AdamW as well, with which PyTorch imports its compiler.
Prints medians of the seconds, of the seconds that processors worked, and a RESULT line. Without ``--dataset_dir``
synthetic patients are made. Stage 2 is SimCLR, which needs no stage 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from ufc_monai.base import host
from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE
from ufc_monai.base.host import Host
from ufc_monai.base.lock import at_work

SOURCE = Path(__file__).parents[1] / "bundles"
TELL = "print('AFTER', time.time() - float(os.environ['BEGAN']), time.process_time(), flush=True)"
FLOORS = {
    "import": f"import os, time; import monai, ignite; {TELL}",
    "optimizer": f"import os, time; import monai, ignite, torch; torch.optim.AdamW([torch.zeros(1)]); {TELL}",
}
STOP = f"""
import os, time
from torch.optim.optimizer import register_optimizer_step_post_hook

def stop(*_):
    {TELL}
    os._exit(0)

register_optimizer_step_post_hook(stop)
"""
FORKED = "{}_forked"
STAGE = f"{STOP}\nimport runpy; runpy.run_module('monai.bundle', run_name='__main__', alter_sys=True)"


def measure(program: str, words: list[str]) -> tuple[float, float]:
    """Seconds, and seconds of work, from the start of a process to where it tells them."""
    command = [sys.executable, "-W", "ignore", "-c", program, *words]
    environment = {**os.environ, "BEGAN": str(time.time())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return told(done.stdout + done.stderr)


def measure_forked(begun: Host, words: list[str]) -> tuple[float, float]:
    """The same of a stage that is forked from a process which has imported MONAI."""
    begun.start(["monai.bundle", *words], {"BEGAN": str(time.time())})
    code, output = begun.wait(), begun.log.read_text(encoding="utf-8")
    if code:  # the log also has what earlier stages have told
        raise SystemExit(f"a start failed:\n{output}")
    return told(output)


def told(output: str) -> tuple[float, float]:
    """What a process has told last."""
    if not (lines := [line for line in output.splitlines() if line.startswith("AFTER")]):
        raise SystemExit(f"a start failed:\n{output}")
    _, seconds, work = lines[-1].split()
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
    stages = (VAE, CONTRASTIVE, UNET)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in (*FLOORS, *stages, *map(FORKED.format, stages))}
    host.START = f"{STOP}\n{host.START}"
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        folder = Path(place)
        lock = stack.enter_context(at_work(folder / "lock"))
        begun = stack.enter_context(Host(folder, lock, folder / "log.txt", aloud=False))
        if options.dataset_dir is None:
            from ufc_monai.phantom.ct import make_phantom

            options.dataset_dir = str(folder / "phantom")
            make_phantom(options.dataset_dir, patients=8, matrix=128)
        for name in BUNDLES:
            shutil.copytree(SOURCE / name / "configs", folder / name / "configs")
            measure_forked(begun, words_of(folder, name, options))  # builds the store
        for _ in range(options.rounds):
            for name, program in FLOORS.items():
                found[name].append(measure(program, []))
            for name in stages:
                words = words_of(folder, name, options)
                found[name].append(measure(STAGE, words))
                found[FORKED.format(name)].append(measure_forked(begun, words))
    result = []
    for name, runs in found.items():
        seconds, work = (median(values) for values in zip(*runs, strict=True))
        floor = median(run[0] for run in found["import"])
        print(f"{name:<30} {seconds:6.2f} s, {seconds / floor:.2f} of the import; {work:.2f} s of work")
        result.append(f"{name}_s={seconds:.2f} {name}_work_s={work:.2f}")
    print("RESULT " + " ".join(result))


if __name__ == "__main__":
    main()
