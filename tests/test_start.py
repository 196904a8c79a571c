"""Nobody waits for libraries that a stage does not use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, SMALL, copy_bundles

TO_THE_FIRST_STEPS = """
import sys, warnings
warnings.simplefilter("ignore")

WASTE = {"matplotlib", "pandas", "kornia", "SimpleITK", "tensorboard", "mlflow", "sklearn.manifold", "sklearn.cluster",
         "sklearn.neighbors", "sklearn.decomposition", "scipy.cluster"}
asked = []

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in WASTE or name.partition(".")[0] in WASTE:
            asked.append(name)
            raise ImportError(f"{name} is not needed to begin")

import torch._dynamo  # part of every optimizer, and looks for what there is
sys.meta_path.insert(0, Refuse())
from monai.bundle import ConfigWorkflow
from torch.optim.optimizer import register_optimizer_step_post_hook

del asked[:]  # MONAI takes what it finds
steps = []

def stop(*_):
    steps.append(1)
    raise KeyboardInterrupt

register_optimizer_step_post_hook(stop)
folder, data, stages = sys.argv[1], sys.argv[2], eval(sys.argv[3])
for name, keys in stages.items():
    if name == "ufc_cluster_contrastive":
        WASTE.remove("kornia")  # blurs the views
    files = [f"{folder}/{name}/configs/train.json"]
    run = ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, bundle_root=f"{folder}/{name}",
                         dataset_dir=data, **keys)
    run.initialize()
    try:
        run.run()
    except KeyboardInterrupt:
        pass
print(len(steps), asked)
"""


def test_stages_begin_without_what_they_do_not_use(phantom: Path, tmp_path: Path) -> None:
    bundles = copy_bundles(tmp_path)
    vae, contrastive, unet = SMALL
    stages = {
        vae: SMALL[vae],
        unet: {**SMALL[unet], "pretrained_path": "none"},
        contrastive: {**SMALL[contrastive], "loss_preset": "simclr", "pseudo_labels_path": "none"},
    }
    words = [sys.executable, "-c", TO_THE_FIRST_STEPS, str(bundles), str(phantom), repr(stages)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines()[-1:] == ["3 []"], done.stdout[-1000:] + done.stderr[-3000:]
