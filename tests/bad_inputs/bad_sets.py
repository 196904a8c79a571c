"""The table of data sets, splits and files between stages that are wrong: what is done, and what the message says."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_files import (
    clustered,
    content,
    cut_off,
    data_set,
    edited,
    listed,
    pseudo_labels,
    slices,
    unet,
    volume,
    voxels,
    weights,
)
from bad_volumes import flipped
from ignite.engine import Engine
from scans import sitk
from torch import nn

from ufc_monai.artifacts.labelling import assign_slices, cut_again
from ufc_monai.artifacts.record import RunRecord
from ufc_monai.artifacts.transfer import load_pretrained, load_weights, read_network
from ufc_monai.base.errors import unwrapped
from ufc_monai.base.files import sha256_of
from ufc_monai.clustering.pseudo_labels import PseudoLabels
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.label_names import resolve_labels
from ufc_monai.data.problems import open_scans
from ufc_monai.data.split import Split
from ufc_monai.data.split_file import open_split
from ufc_monai.losses.contrastive import ClusterContrastiveLoss
from ufc_monai.training.checkpoint import TrainingCheckpoint
from ufc_monai.training.guidance import check_guidance

CONTRASTIVE = "ufc_cluster_contrastive"
ONE = [{"image": "images/p0.nii.gz", "label": "labels/p0.nii.gz"}]


def split(folder: Path, **changes: Any) -> Split:
    """Open a split in which something was changed."""
    path = folder / "split.json"
    open_split(path, data_set(folder))
    return open_split(edited(path, **changes), folder)


def fold(**changes: Any) -> list[dict[str, Any]]:
    orders = [["images/p0.nii.gz"]]
    return [{"training": ["p0"], "validation": [], "test": [], "label_orders": orders, **changes}]


def split_of(folder: Path, text: str) -> Split:
    return open_split(content(folder / "split.json", text), data_set(folder))


def changed(folder: Path, change: Callable[[Path], object]) -> Split:
    """Open a split once more after the data set has changed."""
    open_split(folder / "split.json", data_set(folder))
    change(folder)
    return open_split(folder / "split.json", folder)


def copy_of_test_patient(folder: Path) -> None:
    """One scan under two names, one of them tested on."""
    data_set(folder, labelled=8)
    shutil.copy(folder / "images" / "p0.nii.gz", folder / "images" / "copy.nii.gz")
    found = open_split(folder / "split.json", folder)
    for number in range(4):
        found.pretraining(number)


def written_anew(folder: Path, name: str) -> Split:
    """One scan under two names, the files of which differ, one of them tested on."""
    data_set(folder, labelled=8)
    sitk.WriteImage(sitk.ReadImage(folder / "images" / "p0.nii.gz"), folder / "images" / name)
    found = open_split(folder / "split.json", folder)
    for number in range(4):
        found.pretraining(number)
    return found


def label_order(folder: Path, text: str) -> object:
    return split(folder).labelled(0, order_path=content(folder / "selection.json", text))


def store(folder: Path, change: Callable[[Path], object]) -> object:
    """Read a slice after something was done to the store."""
    found = slices(folder, volume(folder / "a.nii.gz"))
    change(found.entries[0].folder)
    return found[0]


def cut(folder: Path, change: Callable[[Path], object], k: int = 2) -> Path:
    """Cut a saved tree after something was done to its files."""
    change(clustered(folder))
    return cut_again(folder, k)


def guided(folder: Path, **changes: Any) -> None:
    """Start stage 2 with pseudo-labels of other data."""
    found = split(folder)
    there = pseudo_labels(folder / "p.json", provenance={"fold": 0, "split_sha256": found.sha256}, **changes)
    data = slices(folder, folder / "images" / "p0.nii.gz")
    data.slice_transform = lambda item: {**item, "cluster": 0}
    check_guidance("cluster", None, PseudoLabels.load(there), data, found, 0, "ufc", ClusterContrastiveLoss())


def pretrained(folder: Path, change: Callable[[Path], object] = lambda _: None, **how: Any) -> str:
    """Start a UNet from a file to which something was done."""
    change(weights(folder, unet().state_dict()))
    return load_pretrained(unet(), folder / "model.pt", **how)


def described(folder: Path, **record: Any) -> object:
    """Open weights of which ``network.json`` says what cannot be."""
    return read_network(weights(folder, unet().state_dict(), **record).parent, CONTRASTIVE)


def objects(path: Path) -> object:
    """Centres that could only be unpickled."""
    np.savez(path, **{**np.load(path), "centroids": np.array([{}], dtype=object)})
    return assign_slices(path, np.zeros((1, 3), dtype=np.float32), ["a"])


def forbidden(path: Path) -> object:
    """What the system would say to anybody but root."""
    data_set(path.parent)
    with pytest.MonkeyPatch.context() as patch, unwrapped():
        denied = PermissionError(errno.EACCES, "Permission denied", str(path))
        patch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(denied))
        return find_cases(path.parent)


def resigned(path: Path) -> Path:
    """Have ``network.json`` name the file's sha256, so that the file itself is looked into."""
    edited(path.with_name("network.json"), model_sha256=sha256_of(path))
    return path


def torch_file(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


def checkpoint(folder: Path) -> None:
    trainer = Engine(lambda *_: None)
    trainer.network = nn.Identity()
    record = RunRecord(folder, "ufc_feature_vae/train", {})
    path = content(folder / "checkpoint.pt", "hello")
    TrainingCheckpoint(path, {}, record, resume=True).attach(trainer)
    trainer.run([0])


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    # the folder
    "no folder": (lambda d: find_cases(d / "gone"), "dataset_dir: there is no folder"),
    "folder that MONAI took for a number": (lambda _: find_cases(2024), "Name the folder as ./2024"),  # type: ignore[arg-type]
    "folder whose name MONAI has changed": (lambda d: find_cases(d / "day ::1"), "MONAI reads '#' in a path as '::'"),
    "a file as folder": (lambda d: find_cases(volume(d / "a.nii.gz")), "dataset_dir: there is no folder"),
    "empty folder": (find_cases, "holds no volumes"),
    "labels alone": (lambda d: find_cases(volume(d / "labels" / "a.nii.gz").parents[1]), "holds no volumes"),
    "notes alone": (lambda d: find_cases(content(d / "a.txt", "x").parent), "holds no volumes"),
    "one scan under two names": (copy_of_test_patient, "has the same content as a volume of a validation or test"),
    "one scan compressed anew": (lambda d: written_anew(d, "copy.nii.gz"), "has the same content as a volume of a val"),
    "one scan converted": (lambda d: written_anew(d, "copy.mha"), "has the same content as a volume of a validation"),
    "a second channel": (
        lambda d: [volume(d / "images" / f"a_000{i}.nii.gz") for i in (0, 1)] and find_cases(d),
        "is a second channel",
    ),
    "every image labelled": (lambda d: open_scans(data_set(d, 2, 0), unlabelled_only=True), "--unlabelled_only False"),
    # dataset.json
    "list cut off": (lambda d: cut_off(data_set(d) / "dataset.json", 9) and find_cases(d), "is not valid JSON"),
    "list of another alphabet": (
        lambda d: content(data_set(d) / "dataset.json", '{"name": "Änne"}'.encode("latin-1")) and find_cases(d),
        "is not valid JSON",
    ),
    "a list for an object": (lambda d: content(data_set(d) / "dataset.json", "[]") and find_cases(d), "JSON object"),
    "training is a path": (lambda d: find_cases(listed(d, training="images")), "'training' should list paths"),
    "training of numbers": (lambda d: find_cases(listed(d, training=[1])), "'training' should list paths"),
    "image is a number": (lambda d: find_cases(listed(d, training=[{"image": 3}])), "'training' should list paths"),
    "test is a number": (lambda d: find_cases(listed(d, training=ONE, test=3)), "'test' should list paths"),
    "no image in an entry": (lambda d: find_cases(listed(d, training=[{"label": ONE[0]["label"]}])), "has no 'image'"),
    "no image in a long entry": (lambda d: find_cases(listed(d, training=[{"x": "a" * 999}])), "has no 'image'"),
    "listed image gone": (lambda d: find_cases(listed(d, training=[{"image": "x.nii"}])), "which does not exist"),
    "duplicate patient": (lambda d: find_cases(listed(d, training=ONE * 2)), "is listed twice"),
    "labelled test list": (lambda d: find_cases(listed(d, training=ONE, test=ONE)), "the list 'test' holds labels"),
    "labels are a list": (lambda d: resolve_labels(None, listed(d, labels=["liver"])), "should map names to ids"),
    "label of several ids": (lambda d: resolve_labels(None, listed(d, labels={"a": [1, 2]})), "place of one id"),
    "a name of two labels": (
        lambda d: resolve_labels(None, listed(d, labels={"1": "liver", "2": "liver"})),
        "label 'liver' stands for 1 and 2. Give each id a name",
    ),
    "nobody names labels": (lambda d: resolve_labels(None, listed(d)), "labels: neither given nor found"),
    "official split cut off": (
        lambda d: content(data_set(d) / "official_split.json", "{") and find_cases(d),
        "official_split.json is not valid JSON",
    ),
    "a list in thousands of others": (
        lambda d: content(data_set(d) / "dataset.json", '{"a":' + 10**5 * "[") and find_cases(d),
        "is not valid JSON",
    ),
    "half a character in a patient's name": (
        lambda d: find_cases(listed(d, training=[{**ONE[0], "patient": "p\ud800"}])),
        "the name 'p\\ud800' holds characters that are none. Rename it.",
    ),
    "a file named over two lines": (
        lambda d: find_cases(volume(d / "a\nb.nii").parent),
        "'a\\nb.nii' holds characters",
    ),
    "a file named in Latin-1": (
        lambda d: find_cases(volume(d / os.fsdecode(b"M\xfcller.nii.gz")).parent),
        "M\\udcfcller.nii.gz' holds characters that are none",
    ),
    "a picture named in Latin-1": (
        lambda d: find_cases(content(d / os.fsdecode(b"M\xfcller.png"), "x").parent),
        "M\\udcfcller.png' holds characters that are none",
    ),
    "a list that may not be read": (
        lambda d: forbidden(d / "dataset.json"),
        "may not be read or written (Permission den",
    ),
    # split.json
    "split cut off": (lambda d: split_of(d, "{"), "split_path:"),
    "split is a list": (lambda d: split_of(d, "[]"), "should hold a JSON object, not a list"),
    "split is empty": (lambda d: split_of(d, '{"format": 1}'), "is damaged (KeyError: 'images')"),
    "an image of the same size": (
        lambda d: changed(d, lambda d: flipped(d / "images" / "p0.nii.gz", -9)),
        "made for other files than those of",
    ),
    "split of another format": (lambda d: split(d, format=2), "expected a split of format 1, got 2"),
    "split without folds": (lambda d: split(d, folds=[]), "lacks folds, seed or unlabelled"),
    "split without its seed": (lambda d: split(d, seed=None), "lacks folds, seed or unlabelled"),
    "split with bare entries": (lambda d: split(d, images={"images/p0.nii.gz": {}}), "is damaged"),
    "split of absent patient": (lambda d: split(d, folds=fold(training=["zoe"])), "names zoe, which has no image"),
    "split grants absent label": (
        lambda d: split(d, folds=fold(label_orders=[["z.nii"]])),
        "names z.nii, which",
    ),
    "split of other images": (
        lambda d: changed(d, lambda d: volume(d / "images" / "new.nii.gz")),
        "was made for other files than those of",
    ),
    "labels taken away": (
        lambda d: changed(d, lambda d: (d / "labels" / "p0.nii.gz").unlink()),
        "1 with another label, e.g. images/p0.nii.gz",
    ),
    "data set removed": (lambda d: changed(d, lambda d: shutil.rmtree(d / "images")), "holds no volumes"),
    "image removed before it is cut": (
        lambda d: slices(d, d / "gone.nii.gz"),
        "bring it back and give the same command again",
    ),
    "split_seed of letters": (lambda d: open_split(d / "s.json", data_set(d), seed="x"), "split_seed must be"),  # type: ignore[arg-type]
    "fold of letters": (lambda d: split(d).pretraining("a"), "fold must be 0 to 3, got 'a'"),  # type: ignore[arg-type]
    "fold that there is not": (lambda d: split(d).pretraining(4), "fold must be 0 to 3, got 4"),
    "budget beyond what there is": (lambda d: split(d).labelled(0, 99), "labelled_volumes must be 1 to"),
    "budget of nothing": (lambda d: split(d).labelled(0, 0), "labelled_volumes must be 1 to"),
    "half a volume": (lambda d: split(d).labelled(0, 1.5), "labelled_volumes must be 1 to"),  # type: ignore[arg-type]
    "draw that there is not": (lambda d: split(d).labelled(0, 1, 9), "label_draw must be 0 to 4, got 9"),
    "folds for too few patients": (
        lambda d: open_split(d / "split.json", data_set(d, 3)).pretraining(1),
        "fold must be 0 to 0, got 1",
    ),
    "test of too few patients": (lambda d: open_split(d / "split.json", data_set(d, 3)).test(0), "holds out no test"),
    "order cut off": (lambda d: label_order(d, "{"), "label_order_path:"),
    "order is a number": (lambda d: label_order(d, '{"chosen": 3}'), "must list 'chosen' volumes"),
    "order of other volumes": (lambda d: label_order(d, '{"chosen": ["x"]}'), "names x, which is not a labelled"),
    # the slice store
    "cache on a file": (
        lambda d: content(d / "cache", "x") and slices(d, volume(d / "a.nii.gz")),
        "cannot be written (Not a directory). Move the file above it, or name another",
    ),
    "cache removed while it is read": (lambda d: store(d, shutil.rmtree), "is gone or damaged"),
    "cache cut off": (lambda d: store(d, lambda entry: cut_off(entry / "image.npy", 200)), "is gone or damaged"),
    # features and pseudo-labels
    "no pseudo-labels": (lambda d: PseudoLabels.load(d / "p.json"), "pseudo_labels_path: there is no file"),
    "pseudo-labels cut off": (lambda d: PseudoLabels.load(cut_off(pseudo_labels(d / "p"), 40)), "is not valid JSON"),
    "pseudo-labels of another format": (lambda d: PseudoLabels.load(pseudo_labels(d / "p", format=9)), "has format 9"),
    "pseudo-labels lacking a key": (
        lambda d: PseudoLabels.load(pseudo_labels(d / "p", clusters=None)),
        "lacks clusters. Run inference.json of ufc_feature_vae again",
    ),
    "pseudo-labels of fractions": (
        lambda d: PseudoLabels.load(pseudo_labels(d / "p", clusters={"a.nii.gz": [0.5]})),
        "is damaged",
    ),
    "pseudo-labels out of range": (
        lambda d: PseudoLabels.load(pseudo_labels(d / "p", n_clusters=1)),
        "holds clusters outside of 0..0",
    ),
    "pseudo-labels of unknown origin": (
        lambda d: PseudoLabels.load(pseudo_labels(d / "p", provenance=[1])),
        "is damaged",
    ),
    "pseudo-labels of other images": (guided, "1 of 1 images do not fit, first images/p0.nii.gz"),
    "tree cut off": (lambda d: cut(d, lambda d: cut_off(d / "dendrogram.npz")), "dendrogram.npz is damaged"),
    "tree lacking ids": (
        lambda d: cut(d, lambda d: np.savez(d / "dendrogram.npz", tree=np.zeros((3, 4)))),
        "dendrogram.npz lacks landmarks, ids, patients, positions",
    ),
    "centres of Python objects": (lambda d: objects(clustered(d) / "centroids.npz"), "Object arrays cannot be loaded"),
    "features cut off": (lambda d: cut(d, lambda d: cut_off(d / "features.npz")), "features.npz is damaged"),
    "features of other slices": (
        lambda d: cut(d, lambda d: np.savez(d / "features.npz", features=np.zeros((3, 4)), ids=["a", "b", "c"])),
        "are of other slices",
    ),
    "features gone": (lambda d: cut(d, lambda d: (d / "features.npz").unlink()), "there is no"),
    "thumbnails cut off": (
        lambda d: cut(d, lambda d: cut_off(d / "thumbnails.npy", 90)),
        "thumbnails.npy is missing or damaged",
    ),
    "more clusters than slices": (lambda d: cut(d, lambda _: None, 99), "--k must be 2 to 24 for the tree in"),
    "centres gone": (lambda d: assign_slices(d / "centroids.npz", voxels()[0], []), "there is no"),
    # weights
    "weights of another network": (
        lambda d: load_pretrained(unet(), weights(d, {"conv_0.weight": torch.zeros(4)})),
        "fits 0 of 70 tensors",
    ),
    "weights cut off": (lambda d: pretrained(d, lambda p: resigned(cut_off(p))), "is not a plain state dict"),
    "weights of text": (lambda d: pretrained(d, lambda p: resigned(content(p, "x"))), "is not a plain state dict"),
    "weights in a list": (
        lambda d: pretrained(d, lambda p: resigned(torch_file(p, [1]))),
        "hold a state dict",
    ),
    "weights of NaN": (
        lambda d: load_pretrained(unet(), weights(d, {"conv_0.weight": torch.full((4,), torch.nan)})),
        "holds NaN or infinite weights",
    ),
    "weights gone": (lambda d: load_pretrained(unet(), d / "model.pt"), "pretrained_path: there is no file"),
    "weights without network.json": (
        lambda d: pretrained(d, lambda p: p.with_name("network.json").unlink()),
        "has no network.json beside it",
    ),
    "weights of another run": (lambda d: pretrained(d, lambda p: torch_file(p, {})), "describes another model.pt"),
    "weights of another window": (
        lambda d: pretrained(d, expected={"window": [0, 1]}),
        "was trained with window [-250, 650], this run has [0, 1]",
    ),
    "network.json cut off": (
        lambda d: pretrained(d, lambda p: cut_off(p.with_name("network.json"), 9)),
        "is not valid JSON",
    ),
    "network.json of text": (
        lambda d: read_network(edited(weights(d, {}).with_name("network.json"), architecture="x").parent, CONTRASTIVE),
        "architecture should be an object",
    ),
    "network.json with a window of nothing": (
        lambda d: described(d, preprocessing={"image_size": 16, "window": [1, 0]}),
        "window should be two numbers, the lower first, got [1, 0]",
    ),
    "network.json with a size below 0": (
        lambda d: described(d, preprocessing={"image_size": -5, "window": [0, 1]}),
        "image_size should be a whole number above 0, got -5",
    ),
    "network.json with a label too many": (
        lambda d: described(d, labels={"a": 1, "b": 2, "c": 3}, architecture={"out_channels": 3}),
        "labels name 3 structures, the network tells 3 classes apart",
    ),
    "network.json that standardises by a text": (
        lambda d: described(d, preprocessing={"standardise": "false"}),
        "standardise should be true or false, got 'false'",
    ),
    "network.json that ignores a structure": (
        lambda d: described(d, labels={"a": 1, "b": 2}, ignore_id=2),
        "ignore_id 2 is the id of a structure, too",
    ),
    "network.json with an id twice": (lambda d: described(d, labels={"a": 1, "b": 1}), "should name each id once"),
    "network.json with a number in quotes": (
        lambda d: read_network(
            edited(weights(d, {}).with_name("network.json"), preprocessing={"image_size": "64"}).parent, CONTRASTIVE
        ),
        "image_size should be a whole number above 0, got '64'",
    ),
    "network.json of another stage": (
        lambda d: read_network(weights(d, {}).parent, "ufc_feature_vae"),
        "describes weights of ufc_cluster_contrastive",
    ),
    "weights of another shape": (
        lambda d: load_weights(unet(), weights(d, {"conv_0.weight": torch.zeros(4)}).parent),
        "does not fit the network of network.json",
    ),
    "checkpoint of text": (checkpoint, "resume:"),
}
