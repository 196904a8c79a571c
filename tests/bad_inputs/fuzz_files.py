"""The files that are damaged: how a sound one of each kind is made, and what reads it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_files import clustered, content, data_set, pseudo_labels, series, slices, unet, volume, voxels, weights
from ignite.engine import Engine
from scans import make_image, sitk
from torch.utils.data import DataLoader, TensorDataset

from ufc_monai.artifacts.labelling import cut_again
from ufc_monai.artifacts.record import RunRecord
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.chain import refuse_stale
from ufc_monai.base.files import sha256_of
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.clustering.space import load_space
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.data.split_file import open_split
from ufc_monai.self_training.choose import Choice, Predicted
from ufc_monai.self_training.rounds import Round, RoundWriter
from ufc_monai.study.runs import Run, read_plan, write_plan
from ufc_monai.training.checkpoint import TrainingCheckpoint
from ufc_monai.transforms.volume import LoadVolume

Make = Callable[[Path], tuple[Path, Callable[[], Any]]]
"""Writes a sound file: which is damaged, and what reads it."""


def image(name: str, **how: Any) -> Make:
    """A volume through SimpleITK."""

    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        sitk.WriteImage(make_image(0.3), folder / name, **how)
        return folder / name, lambda: LoadVolume()(folder / name)

    return make


def detached(name: str, voxel_file: str) -> Make:
    """The voxels of a header that names them."""

    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        sitk.WriteImage(make_image(0.3), folder / name)
        return folder / voxel_file, lambda: LoadVolume()(folder / name)

    return make


def nifti(name: str) -> Make:
    return lambda d: (volume(d / name), lambda: LoadVolume()(d / name))


def picture(name: str, colours: bool = False) -> Make:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        grey = np.random.default_rng(0).integers(0, 255, (24, 20, 3) if colours else (24, 20), dtype=np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(grey, isVector=colours), folder / name)
        return folder / name, lambda: LoadVolume(3 if colours else 1)(folder / name)

    return make


def dicom(folder: Path) -> tuple[Path, Callable[[], Any]]:
    place = series(folder / "series")
    return sorted(place.iterdir())[1], lambda: LoadVolume()(place)


def listed(name: str, text: str) -> Make:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        path = content(data_set(folder) / name, text)
        return path, lambda: [find_cases(folder), resolve_labels(None, folder)]

    return make


def sealed(make: Make) -> Make:
    """The same file as a later stage reads it, which compares it with the record of the stage that made it."""

    def sealed_make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        path, read = make(folder)
        output = {"path": str(path), "sha256": sha256_of(path)}
        record = {"folder": str(path.parent), "inputs": {}, "outputs": {"it": output}}
        content(path.parent / "run.json", json.dumps(record))
        return path, lambda: [refuse_stale([path]), read()]

    return sealed_make


def split(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = folder / "split.json"
    found = open_split(path, data_set(folder / "data"))
    return path, lambda: open_split(path, folder / "data", sha256=found.sha256).content


def hand_made_split(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path, _ = split(folder)
    return path, lambda: open_split(path, folder / "data").pretraining(0)


def guidance(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path = pseudo_labels(folder / "pseudo_labels.json")
    return path, lambda: PseudoLabels.load(path).clusters


def network(name: str) -> Make:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        weights(folder, unet().state_dict())
        return folder / name, lambda: _loaded(folder)

    return make


def _loaded(folder: Path) -> Any:
    model = unet()
    record = read_network(folder, "ufc_cluster_contrastive")
    load_weights(model, folder)
    return [record, dict(model.state_dict())]


def arrays(name: str) -> Make:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        clustered(folder)
        return folder / name, lambda: [PseudoLabels.load(cut_again(folder, 2)).clusters, _space(folder)]

    return make


def _space(folder: Path) -> Any:
    scaling, centres, *rest = load_space(folder / "centroids.npz")
    return [vars(scaling), centres, rest[0]]


def stored(name: str) -> Make:
    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        scan = volume(folder / "a.nii.gz", voxels(0, (24, 24, 6)))
        entry = slices(folder, scan).entries[0]
        return entry.folder / name, lambda: [slices(folder, scan)[i] for i in range(6)]

    return make


def a_round(name: str) -> Make:
    """A round of self-training, known by the sha256 of its list."""

    def make(folder: Path) -> tuple[Path, Callable[[], Any]]:
        volumes = slices(folder, volume(folder / "a.nii.gz")).entries
        shape = volumes[0].array("image").shape
        drawn = np.random.default_rng(0).integers(0, 2, (4, *shape[2:], shape[0])).astype(np.uint8)
        writer = RoundWriter(folder / "round_1", volumes, Choice(), np.array([0.5, 0.5]))
        found = writer.write(lambda _: Predicted(*drawn), {})
        sha256 = found.sha256
        return found.folder / name, lambda: [
            entry.array(key) for entry in Round.open(found.folder, sha256).entries() for key in ("label", "predicted")
        ]

    return make


def checkpoint(folder: Path) -> tuple[Path, Callable[[], Any]]:
    train(folder, resume=False)
    return folder / "checkpoint.pt", lambda: train(folder, resume=True)


def train(folder: Path, resume: bool) -> Any:
    """What a training that learns nothing holds at its end."""
    trainer, network = Engine(lambda *_: None), torch.nn.Linear(8, 8)
    trainer.network, trainer.scaler, trainer.data_loader = (
        network,
        None,
        DataLoader(TensorDataset(torch.arange(4)), batch_size=2),
    )
    run = RunRecord(folder, "ufc_feature_vae/train", {})
    TrainingCheckpoint(folder / "checkpoint.pt", {"network": network}, run, resume=resume).attach(trainer)
    trainer.run(trainer.data_loader, max_epochs=1)
    return [dict(network.state_dict()), trainer.state.epoch, random.random()]


def a_study(folder: Path) -> tuple[Path, Callable[[], Any]]:
    write_plan(folder, [Run("fold0/a", "features", (("a", "b"),), ())], {"created": "today"})
    return folder / "study.json", lambda: read_plan(folder)


def record(folder: Path) -> tuple[Path, Callable[[], Any]]:
    path, _ = sealed(guidance)(folder)
    return path.with_name("run.json"), lambda: refuse_stale([path])


ONE = '{"name": "heart", "labels": {"background": 0, "liver": 1, "spleen": 2}}'
OFFICIAL = '{"training": ["images/p0.nii.gz"], "validation": [], "test": ["images/p1.nii.gz"]}'
SEALED: dict[str, Make] = {
    ".nii.gz": nifti("a.nii.gz"),
    ".png": picture("a.png"),
    ".png in colours": picture("a.png", colours=True),
    "split.json, as a stage reads it": split,
    "pseudo_labels.json, so": sealed(guidance),
    "network.json, so": sealed(network("network.json")),
    "model.pt": network("model.pt"),
    "features.npz": arrays("features.npz"),
    "dendrogram.npz": arrays("dendrogram.npz"),
    "centroids.npz": arrays("centroids.npz"),
    "slice store, image.npy": stored("image.npy"),
    "slice store, entry.json": stored("entry.json"),
    "round.json": a_round("round.json"),
    "a round's label.npy": a_round("0/label.npy"),
    "checkpoint.pt": checkpoint,
}
"""Files with a checksum, or whose sha256 is known to what reads them: never another result."""
OPEN: dict[str, Make] = {
    ".nii": nifti("a.nii"),
    ".nrrd": image("a.nrrd", useCompression=False),
    ".nrrd, compressed": image("a.nrrd", useCompression=True),
    ".nhdr": detached("a.nhdr", "a.nhdr"),
    ".nhdr, its voxels": detached("a.nhdr", "a.raw"),
    ".mha": image("a.mha", useCompression=False),
    ".mha, compressed": image("a.mha", useCompression=True),
    ".mhd": detached("a.mhd", "a.mhd"),
    ".mhd, its voxels": detached("a.mhd", "a.raw"),
    "DICOM": dicom,
    ".jpg": picture("a.jpg"),
    "dataset.json": listed("dataset.json", ONE),
    "official_split.json": listed("official_split.json", OFFICIAL),
    "split.json, of the first stage": hand_made_split,
    "pseudo_labels.json, alone": guidance,
    "network.json, alone": network("network.json"),
    "thumbnails.npy": arrays("thumbnails.npy"),
    "study.json": a_study,
    "run.json": record,
}
"""Those that nothing vouches for."""
