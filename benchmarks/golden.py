"""Do two commits compute the same? Weights, pseudo-labels, masks and Dice of all three bundles, bit by bit.

``python benchmarks/golden.py A B`` checks both commits out, runs the same tiny trainings in each with this interpreter,
on this machine and side by side, and prints what differs; it exits with 1 if anything does. It runs every method of
stage 2, both starts of stage 3 with test and masks, and a study of four runs, on synthetic patients; with
``--data DIR`` also the chain on the first two labelled volumes of a data set. Never compare results of two machines:
their last bits differ.

Masks are compared as class indices, whichever values a commit writes; of pseudo-labels the cluster of each slice, not
their provenance.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

ROOT = Path(__file__).parents[1]
VAE, CONTRASTIVE, UNET = "ufc_feature_vae", "ufc_cluster_contrastive", "ufc_unet_segmentation"
SIZE: dict[str, Any] = {"image_size": 32, "threads": 1, "device": "cpu", "epochs": 2, "min_steps": 1}
WIDTHS: dict[str, Any] = {"features": [4, 4, 8, 8, 16, 4], "norm": "batch"}
SETTINGS: dict[str, dict[str, Any]] = {
    VAE: {**SIZE, "vae_channels": [4, 8, 8], "latent_size": 8, "kl_warmup_epochs": 1},
    CONTRASTIVE: {**SIZE, **WIDTHS, "head_hidden": 16, "embedding_size": 8, "batch_size": 24},
    UNET: {**SIZE, **WIDTHS, "min_steps": 60, "val_interval": 1, "learning_rate": 0.003},
}
NO_METHODS = {"cpu", "isic", "inference", "metadata", "multi_gpu_train", "probe", "train"}
"""Configurations of stage 2 that are no method's."""
UNDER = {"shape_prior": ["local_discrimination"]}
"""What a method's configuration is laid over, beside the training's. Both are kept here, since an older commit may have
no ``base/bundles.py`` to ask."""


def main() -> int:
    """Run both commits and print the comparison.

    Returns:
        1 if something differs, else 0.
    """
    parser = argparse.ArgumentParser(description="Do two commits compute the same?")
    parser.add_argument("A", help="a commit")
    parser.add_argument("B", help="another one")
    parser.add_argument("--data", type=Path, help="a data set with dataset.json, of which two volumes are taken")
    parser.add_argument("--methods", help="of stage 2, with commas between them (default: all that both commits have)")
    parser.add_argument("--keep", type=Path, help="folder that keeps everything (default: a temporary one)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.keep or Path(temporary)).resolve()
        trees = [_checkout(commit, folder / side) for commit, side in ((chosen.A, "a"), (chosen.B, "b"))]
        _ufc_monai(trees[0], "phantom", folder / "phantom", "--patients", 9, "--labelled", 8)
        if chosen.data:
            _two_volumes(chosen.data.resolve(), folder / "ct")
        methods = chosen.methods.split(",") if chosen.methods else sorted(set.intersection(*map(_methods, trees)))
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda tree: _everything(tree, folder, methods), trees))
    return _compare(*found)


def _checkout(commit: str, folder: Path) -> Path:
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=archive, check=True)
    return folder


def _methods(tree: Path) -> set[str]:
    return {path.stem for path in (tree / "bundles" / CONTRASTIVE / "configs").glob("*.json")} - NO_METHODS


def _two_volumes(source: Path, target: Path) -> None:
    """A data set of links to the first two labelled volumes of another."""
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content |= {"training": content["training"][:2], "test": []}
    for name in (name for entry in content["training"] for name in entry.values()):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).symlink_to(source / name)
    (target / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def _everything(tree: Path, folder: Path, methods: Sequence[str]) -> dict[str, str]:
    """What a commit computes, by name."""
    work = folder / f"{tree.name}_work"
    _python(tree, Path(__file__).resolve(), "chain", tree, folder / "phantom", work / "phantom", ",".join(methods))
    if (folder / "ct").is_dir():
        _python(tree, Path(__file__).resolve(), "chain", tree, folder / "ct", work / "ct", "ufc")
    words = ["--methods", "random,simclr", "--budgets", "2", "--folds", 1, "--seeds", 1, "--init_seeds", 1]
    words += ["--preset", "cpu", "--bundles", tree / "bundles", "--threads", 1]
    for bundle, settings in SETTINGS.items():
        kept = {key: value for key, value in settings.items() if key not in ("threads", "device")}
        words += [word for key, value in kept.items() for word in ("--set", f"{bundle}.{key}={value!r}")]
    _ufc_monai(tree, "study", "--dataset_dir", folder / "phantom", "--folder", work / "study", *words)
    return dict(sorted(_computed(work)))


def _python(tree: Path, *words: object) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{tree}: {' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def _ufc_monai(tree: Path, *words: object) -> None:
    _python(tree, "-m", "ufc_monai", *words)


def _chain(tree: Path, data: Path, work: Path, methods: Sequence[str]) -> None:
    """Run the bundles of a commit, whose package this process imports, in one process."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    _run(tree, work, VAE, ["train"], data, SETTINGS[VAE], work / "vae")
    split = {"split_path": work / "vae" / "split.json"}
    labels = work / "vae" / "inference" / "pseudo_labels.json"
    clusters = {"n_clusters": 4, "centroids_path": work / "vae" / "centroids.npz", "output_dir": labels.parent}
    _run(tree, work, VAE, ["inference"], data, clusters | {"threads": 1, "device": "cpu"}, work / "vae")
    for method in methods:
        uses = {} if "none" in _pseudo_labels(tree, method) else {"pseudo_labels_path": labels}
        _run(
            tree,
            work,
            CONTRASTIVE,
            ["train", *UNDER.get(method, []), method],
            data,
            SETTINGS[CONTRASTIVE] | split | uses,
            work / method,
        )
    many = len(list(data.glob("*_image*"))) >= 8  # else there are no test patients
    for name, start in (("random", "none"), ("pretrained", work / methods[-1] / "model.pt")):
        keys = SETTINGS[UNET] | split | {"pretrained_path": start} | ({"labelled_volumes": 2} if many else {})
        _run(tree, work, UNET, ["train"], data, keys, work / name)
        if many:
            test = split | {"output_dir": work / name / "test", "device": "cpu"}
            _run(tree, work, UNET, ["train", "evaluate"], data, test, work / name)
    masks = {"output_dir": work / "pretrained" / "masks", "unlabelled_only": many, "threads": 1, "device": "cpu"}
    _run(tree, work, UNET, ["inference"], data, masks, work / "pretrained")


def _pseudo_labels(tree: Path, method: str) -> str:
    config = json.loads((tree / "bundles" / CONTRASTIVE / "configs" / f"{method}.json").read_text(encoding="utf-8"))
    return str(config.get("pseudo_labels_path"))


def _run(
    tree: Path, work: Path, bundle: str, configs: Sequence[str], data: Path, keys: Mapping[str, Any], place: Path
) -> None:
    """Run configurations of a bundle as ``python -m monai.bundle run`` does; everything goes to one folder."""
    from monai.bundle import ConfigWorkflow

    places = {"ckpt_dir": place, "output_dir": place / "train", "cache_dir": work / "cache"}
    places |= {"split_path": place / "split.json"} if bundle == VAE else {}
    root = tree / "bundles" / bundle
    inference = configs[0] == "inference"
    if inference and bundle == UNET:
        del places["cache_dir"]
    workflow = ConfigWorkflow(
        config_file=[str(root / "configs" / f"{config}.json") for config in configs],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer" if inference else "train",
        bundle_root=str(root),
        dataset_dir=str(data),
        **{key: str(value) if isinstance(value, Path) else value for key, value in {**places, **keys}.items()},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def _computed(work: Path) -> Iterator[tuple[str, str]]:
    """What lies in a folder: hashes of weights, clusters and masks, and the rows of Dice tables."""
    for path in sorted(work.rglob("*")):
        name = path.relative_to(work).as_posix()
        if path.name == "model.pt":
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "pseudo_labels.json":
            clusters = json.loads(path.read_text(encoding="utf-8"))["clusters"]
            yield f"{name}: clusters", hashlib.sha256(json.dumps(clusters, sort_keys=True).encode()).hexdigest()
        elif path.name.endswith("_seg.nii.gz"):
            yield f"{name}: classes", hashlib.sha256(_classes(path, work).tobytes()).hexdigest()
        elif path.name in ("dice.csv", "structures.csv", "study.csv"):
            with open(path, newline="", encoding="utf-8") as file:
                for row in csv.reader(file):
                    yield f"{name}: {','.join(row)}", "there"


def _classes(mask: Path, work: Path) -> np.ndarray[Any, Any]:
    """A mask as class indices: in the order of the labels, whether it holds those or the data set's ids."""
    record = next(p for p in (parent / "network.json" for parent in mask.parents) if p.is_file())
    ids = list(json.loads(record.read_text(encoding="utf-8"))["labels"].values())
    values = np.asarray(nib.load(mask).dataobj).astype(np.int64)
    if values.max(initial=0) <= len(ids):
        return values.astype(np.uint8)
    classes = np.zeros(values.shape, dtype=np.uint8)
    for index, value in enumerate(ids, start=1):
        classes[values == value] = index
    return classes


def _compare(a: Mapping[str, str], b: Mapping[str, str]) -> int:
    different = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    for name in different:
        print(f"{name[:160]}: {a.get(name, 'not in A')[:16]} / {b.get(name, 'not in B')[:16]}")
    same = len({*a, *b}) - len(different)
    print(f"RESULT same={same} different={len(different)}")
    return int(bool(different))


if __name__ == "__main__":
    if sys.argv[1:2] == ["chain"]:
        _chain(*map(Path, sys.argv[2:5]), sys.argv[5].split(","))  # type: ignore[arg-type]
        sys.exit()
    sys.exit(main())
