"""How long until the first training step, and how much memory does a training process take?

    python benchmarks/start_and_memory.py --dataset_dir DIR [--labels ...] [--window ...]

Copies the bundles into a temporary folder and trains each stage for an epoch with cpu.json at ``--image_size`` (128),
twice: the first start builds the slice store, the second finds it. Memory is the largest resident memory without mapped
pages (``RssAnon``), sampled ten times a second. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BUNDLES = Path(__file__).parents[1] / "bundles"
CHILD = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
root, began, overrides = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
files = [f"{root}/configs/train.json", f"{root}/configs/cpu.json"]
workflow = ConfigWorkflow(config_file=files, workflow_type="train", bundle_root=root,
                          logging_file=f"{root}/configs/logging.conf", **overrides)
workflow.initialize()
workflow.parser.get_parsed_content("train::trainer").add_event_handler(
    Events.ITERATION_COMPLETED(once=1), lambda: print(f"FIRST_STEP {time.time() - began:.1f}", flush=True))
workflow.run()
"""


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds to the first step and the peak of RssAnon in GB of a child process."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while child.poll() is None:
        try:
            status = Path(f"/proc/{child.pid}/status").read_text()
        except OSError:
            break
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            peak = max(peak, int(found[1]))
        time.sleep(0.1)
    output = child.communicate()[0]
    if child.returncode:
        raise SystemExit(f"a stage failed:\n{output}")
    first = re.search(r"FIRST_STEP ([\d.]+)", output)
    return float(first[1]) if first else float("nan"), peak / 1e6


def main() -> None:
    """Measure all stages and print one RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=os.path.abspath)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--window", type=eval, default=[-250, 650])
    parser.add_argument("--labelled_volumes", type=int, default=2)
    parser.add_argument("--labels", type=eval, default=None)
    parser.add_argument("--background_labels", type=eval, default=[421])
    options = parser.parse_args()
    common = {
        "dataset_dir": options.dataset_dir,
        "image_size": options.image_size,
        "window": options.window,
        "epochs": 1,
    }
    labels = {
        "labels": options.labels,
        "background_labels": options.background_labels,
        "min_steps": 1,
        "val_interval": 1,
    }
    labels["labelled_volumes"] = options.labelled_volumes
    stages = {
        "ufc_feature_vae": common,
        "ufc_cluster_contrastive": {**common, "loss_preset": "simclr", "pseudo_labels_path": "none"},
        "ufc_unet_segmentation": {**common, **labels, "pretrained_path": "none"},
    }
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in stages.items():
            shutil.copytree(BUNDLES / name / "configs", Path(folder, name, "configs"))
            for start in ("first", "second"):
                words = [sys.executable, "-c", CHILD, str(Path(folder, name)), str(time.time()), json.dumps(overrides)]
                seconds, memory = measure(words)
                print(f"{name}: {start} start, first step after {seconds:.1f} s, at most {memory:.2f} GB", flush=True)
                results.append(f"{name}_{start}_step_s={seconds:.1f} {name}_{start}_gb={memory:.2f}")
    print("RESULT " + " ".join(results))


if __name__ == "__main__":
    main()
