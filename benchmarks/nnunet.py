"""nnU-Net v2 beside our fine-tuning with unlabelled scans: the same labelled volumes, the same machine, test Dice.

    python benchmarks/nnunet.py DATA OUT --nnunet VENV --keys KEYS.json [--draws 0,1] [--minutes 60] [--threads 2]

DATA is a Decathlon data set. Its volumes are first brought to ``--side`` pixels in plane; both read these files, and
both are judged on their grid, on the test patients of the fold. nnU-Net is its 2D configuration without mirroring (left
and right organs differ) and with ``-f all`` on the labelled volumes, as many epochs as fit into ``--minutes``: one is
timed first. Ours is train.json, cpu.json and self_training.json at ``--side``, at its default length, which also reads
the unlabelled training volumes. VENV is an environment of its own, made by ``python -m venv VENV`` and
``VENV/bin/pip install nnunetv2``. KEYS.json holds ``window``, ``labels`` and ``background_labels`` of the data set.

OUT/nnunet.csv has a row a test volume and method. OUT is gone on with.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import zoom
from tqdm import tqdm

from ufc_monai.base.formats import stem_of
from ufc_monai.data.split_file import open_split

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / "bundles" / "ufc_unet_segmentation"
TRAINER = "nnUNetTrainerForMinutes"
ITERATIONS = 25
"""Of an epoch of nnU-Net: small, so that its learning rate falls smoothly over the few steps of a CPU."""
TRAINER_CODE = f"""
import os
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoMirroring import nnUNetTrainerNoMirroring

class {TRAINER}(nnUNetTrainerNoMirroring):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = {ITERATIONS}, 1
        self.num_epochs = int(os.environ["EPOCHS"])
"""
TORCHVISION = """
import importlib.abc, sys

class Declare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":  # which nnU-Net imports, but does not use, is often built for another PyTorch
            sys.meta_path.remove(self)
            import torch
            torch._declared = torch.library.Library("torchvision", "DEF")
            for op in ("nms", "qnms"):
                torch._declared.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return None

sys.meta_path.insert(0, Declare())
"""


def resized(path: Path, out: Path, side: int, values: Mapping[int, int] | None = None) -> None:
    """Write a volume with ``side`` pixels in plane; ``values``: new values of a label map, 0 for the others."""
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj)
    factors = [side / n for n in voxels.shape[:2]] + [1]
    if values is None:
        small = zoom(voxels.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
    else:
        table = np.zeros(int(voxels.max()) + 1, dtype=np.uint8)
        table[[value for value in values if value < len(table)]] = [n for v, n in values.items() if v < len(table)]
        small = zoom(table[voxels.astype(np.int64)], factors, order=0, grid_mode=True, mode="nearest")
    affine = image.affine @ np.diag([*(1 / f for f in factors), 1])
    affine[:3, 3] = image.affine[:3, :3] @ [(1 / f - 1) / 2 for f in factors] + image.affine[:3, 3]
    nibabel.save(nibabel.Nifti1Image(small, affine), out)


def made_small(data: Path, out: Path, side: int, labels: Mapping[str, int]) -> Path:
    """The data set with ``side`` pixels in plane and the structures numbered from 1; returns its folder."""
    folder = out / "data"
    if (folder / "dataset.json").is_file():
        return folder
    listed = json.loads((data / "dataset.json").read_text())
    values = {value: n for n, value in enumerate(labels.values(), 1)}
    for pair in tqdm(listed["training"], "resize"):
        for key, numbers in (("image", None), ("label", values)):
            target = folder / pair[key]
            target.parent.mkdir(parents=True, exist_ok=True)
            resized(data / pair[key], target, side, numbers)
    listed["labels"] = {"0": "background", **{str(n): name for n, name in enumerate(labels, 1)}}
    (folder / "dataset.json").write_text(json.dumps(listed, indent=1))
    return folder


def run(words: Sequence[object], log: Path, environment: Mapping[str, str]) -> None:
    """Run a command; what it prints goes to ``log``."""
    with open(log, "a") as file:
        subprocess.run([str(w) for w in words], stdout=file, stderr=file, check=True, env={**os.environ, **environment})


def ours(data: Path, folder: Path, keys: Mapping[str, Any], draw: int, a: argparse.Namespace) -> None:
    """Train with the unlabelled scans in a copy of the bundle, and segment the test volumes."""
    bundle = folder / BUNDLE.name
    shutil.copytree(BUNDLE / "configs", bundle / "configs", dirs_exist_ok=True)
    (folder / "keys.json").write_text(json.dumps(keys))
    files = [*(bundle / "configs" / f"{name}.json" for name in ("train", "cpu", "self_training")), folder / "keys.json"]
    places = {"bundle_root": bundle, "dataset_dir": data, "split_path": a.out / "split.json", "pretrained_path": "none"}
    places |= {"image_size": a.side, "threads": a.threads, "labelled_volumes": 2, "label_draw": draw, "fold": a.fold}
    words = [word for key, value in places.items() for word in (f"--{key}", value)]
    environment = {"OMP_NUM_THREADS": str(a.threads), "PYTHONPATH": str(ROOT)}
    python, log = (sys.executable, "-m"), folder / "log.txt"
    run([*python, "monai.bundle", "run", "--config_file", list(map(str, files)), *words], log, environment)
    segment = ("ufc_monai", "segment", a.out / "test", folder / "masks", "--existing", "overwrite")
    run([*python, *segment, "--weights", bundle, "--threads", a.threads], log, environment)


def theirs(data: Path, folder: Path, labels: Sequence[str], draw: int, a: argparse.Namespace) -> None:
    """Plan, preprocess, train and predict by nnU-Net."""
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results", "extTrainer")}
    environment = {**places, "nnUNet_compile": "f", "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": str(a.threads)}
    environment |= {"PYTHONPATH": str(folder / "declared"), "EPOCHS": "1"}
    for name in ("declared", "extTrainer"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "extTrainer" / f"{TRAINER}.py").write_text(TRAINER_CODE)
    if subprocess.run([a.nnunet / "bin" / "python", "-c", "import torchvision"], capture_output=True).returncode:
        (folder / "declared" / "sitecustomize.py").write_text(TORCHVISION)
    link_labelled(open_split(a.out / "split.json", data, 0).labelled(a.fold, 2, draw), folder / "raw", labels)

    def command(words: str, *more: object) -> None:
        name, *others = words.split()
        run([a.nnunet / "bin" / f"nnUNetv2_{name}", *others, *more], folder / "log.txt", environment)

    train = f"train 1 2d all -tr {TRAINER} -device cpu -num_gpus 1"
    command("plan_and_preprocess -d 1 -c 2d -np 1")
    command(train)
    seconds = float(re.findall(r"Epoch time: ([\d.]+) s", (folder / "log.txt").read_text())[-1])
    environment["EPOCHS"] = str(max(1, int(a.minutes * 60 / seconds)))
    command(train)
    predict = f"predict -d 1 -c 2d -f all -tr {TRAINER} -device cpu -npp 1 -nps 1"
    command(predict, "-i", a.out / "test_0000", "-o", folder / "masks")


def link_labelled(pairs: Sequence[Mapping[str, str]], raw: Path, labels: Sequence[str]) -> None:
    """Lay out the labelled volumes as nnU-Net wants them, by links."""
    folder = raw / "Dataset001_labelled"
    for k, pair in enumerate(pairs):
        link(pair["image"], folder / "imagesTr" / f"{k}_0000.nii.gz")
        link(pair["label"], folder / "labelsTr" / f"{k}.nii.gz")
    ids = {"background": 0, **{name: n for n, name in enumerate(labels, 1)}}
    about = {"channel_names": {"0": "CT"}, "labels": ids, "numTraining": len(pairs), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about))


def link(target: str, place: Path) -> None:
    """Make a link, in the place of one that is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target)


def dice(found: NDArray[Any], label: NDArray[Any], names: Sequence[str]) -> dict[str, float]:
    """Dice (%) of each structure; NaN where the label does not hold it."""
    masks = ((found == n, label == n) for n in range(1, len(names) + 1))
    values = [200 * (p & r).sum() / (p.sum() + r.sum()) if r.any() else np.nan for p, r in masks]
    return dict(zip(names, values, strict=True))


def voxels(path: Path) -> NDArray[Any]:
    """Of a mask."""
    return np.asarray(nibabel.load(path).dataobj)


def one(method: str, draw: int, data: Path, keys: Mapping[str, Any], a: argparse.Namespace) -> list[dict[str, Any]]:
    """Train and segment, unless that is done; a row a test volume."""
    folder, names = a.out / f"{method}_{draw}", list(keys["labels"])
    folder.mkdir(exist_ok=True)
    done, began = folder / "minutes.txt", time.monotonic()
    if not done.is_file():
        if method == "ours":
            numbered = {name: n for n, name in enumerate(names, 1)}
            ours(data, folder, {"window": keys["window"], "labels": numbered}, draw, a)
        else:
            theirs(data, folder, names, draw, a)
        done.write_text(f"{(time.monotonic() - began) / 60:.1f}")
    rows, ending = [], "_seg" if method == "ours" else ""
    for pair in open_split(a.out / "split.json", data, 0).test(a.fold):
        volume = stem_of(pair["image"])
        scores = dice(voxels(folder / "masks" / f"{volume}{ending}.nii.gz"), voxels(Path(pair["label"])), names)
        about = {"method": method, "draw": draw, "minutes": float(done.read_text()), "volume": volume}
        rows.append({**about, "mean": np.nanmean(list(scores.values())), **scores})
    return rows


def main() -> None:
    """Run what is missing, print the table of means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--keys", type=Path, required=True)
    for name, value in {"minutes": 60.0, "threads": 2, "side": 128, "fold": 0}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--draws", default="0,1")
    parser.add_argument("--methods", default="ours,nnU-Net")
    a = parser.parse_args()
    a.out, a.nnunet = a.out.resolve(), a.nnunet.absolute()
    a.out.mkdir(parents=True, exist_ok=True)
    keys = json.loads(a.keys.read_text())
    data = made_small(a.data, a.out, a.side, keys["labels"])
    for pair in open_split(a.out / "split.json", data, 0).test(a.fold):
        link(pair["image"], a.out / "test" / f"{stem_of(pair['image'])}.nii.gz")
        link(pair["image"], a.out / "test_0000" / f"{stem_of(pair['image'])}_0000.nii.gz")
    runs = [(method, int(draw)) for draw in a.draws.split(",") for method in a.methods.split(",")]
    table = pd.DataFrame([row for method, draw in runs for row in one(method, draw, data, keys, a)])
    table.to_csv(a.out / "nnunet.csv", index=False, float_format="%.2f")
    means = table.groupby(["method", "draw"]).mean(numeric_only=True).round(1)
    print(means.to_string())
    print("RESULT", *(f"{m}={v:.1f}" for m, v in means.groupby("method")["mean"].mean().items()))


if __name__ == "__main__":
    main()
