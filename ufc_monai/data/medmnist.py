"""MedMNIST's files, ``.npz`` with pictures, one label each and a split, as a folder like any other data set."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import atomic_path, found_json, sha256_of, write_json
from ufc_monai.data.case import OFFICIAL, ROLES

PARTS = dict(zip(ROLES, ("train", "val", "test"), strict=True))
"""What the file calls them."""


def unpacked(path: Path) -> Path:
    """The folder of a file's pictures, made the first time: ``pneumoniamnist`` beside ``pneumoniamnist.npz``.

    It holds ``images/train_00000.png`` and so on, MedMNIST's split as ``official_split.json``, and ``labels.csv`` with
    the columns image and label for ``agreement``. There are no masks.

    Args:
        path: the file: ``train_images``, ``val_images``, ``test_images`` as (n, h, w) or (n, h, w, 3) of uint8, and
            ``train_labels`` and so on, (n,) or (n, 1); a part may lack labels.

    Raises:
        InputError: if the file is damaged or has another layout, or the folder was not made from it.
    """
    folder, sha256 = path.with_suffix(""), sha256_of(path)
    if folder.exists():
        if not folder.is_dir() or found_json(folder / OFFICIAL, "dataset_dir").get("sha256") != sha256:
            raise InputError(f"dataset_dir: {folder} was not made from {path} as it is now. Move or delete {folder}.")
        return folder
    parts = {role: _read(path, name) for role, name in PARTS.items()}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        made = Path(temporary, "made")  # below it, as it is closed to others itself
        made.mkdir()
        _write(made, parts, sha256)
        os.rename(made, folder)
    return folder


def _read(path: Path, part: str) -> tuple[NDArray[np.uint8], list[str]]:
    """The pictures of a part and their labels, which are empty where there are none."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            images = np.asarray(file[f"{part}_images"])
            labels = np.asarray(file[f"{part}_labels"]) if f"{part}_labels" in file.files else None
    except Exception as e:  # NumPy and zipfile raise what they like
        raise InputError(
            f"dataset_dir: {path} cannot be read ({type(e).__name__}). Expected MedMNIST's npz with train_images, "
            "val_images and test_images, or the folder of your volumes."
        ) from e
    shape = images.shape
    if images.dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)) or 0 in shape:
        raise InputError(
            f"dataset_dir: {path}: {part}_images are {images.dtype} {shape}; expected uint8 pictures, (n, h, w) or "
            "(n, h, w, 3). Write volumes as NIfTI into a folder."
        )
    if labels is None:
        return images, [""] * len(images)
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise InputError(
            f"dataset_dir: {path}: {part}_labels are {labels.shape}; expected one label for each of {len(images)} "
            "pictures. Choose one column."
        )
    return images, [str(label) for label in labels.ravel().tolist()]


def _write(folder: Path, parts: dict[str, Any], sha256: str) -> None:
    (folder / "images").mkdir()
    rows, split = ["image,label"], dict[str, Any](sha256=sha256)
    for role, (images, labels) in parts.items():
        split[role] = [f"images/{PARTS[role]}_{i:05}.png" for i in range(len(images))]
        for name, image in zip(split[role], images, strict=True):
            Image.fromarray(image).save(folder / name)
        rows += [f"{name},{label}" for name, label in zip(split[role], labels, strict=True)]
    with atomic_path(folder / "labels.csv") as temporary:
        temporary.write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_json(folder / OFFICIAL, split)
