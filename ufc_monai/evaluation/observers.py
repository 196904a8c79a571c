"""Labels of slices: from a file that an observer has filled in, or from masks by a rule."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ufc_monai.base.errors import InputError, meant
from ufc_monai.data.slices import SliceDataset

NONE = "none"
"""The class of slices without any structure."""
THIRDS = ("small", "middle", "large")


def read_labels(path: Path, images: Mapping[str, int]) -> dict[str, str]:
    """What a CSV with the columns ``image`` and ``label`` says of slices, by their ids.

    Args:
        path: the file; ``image`` is an image's path relative to the data set's folder, whose slices then all have the
            label, or the id of one slice, ``"<image>#<index>"``. Rows without a label are skipped.
        images: number of slices of each image.

    Raises:
        InputError: if it cannot be read, names an image or slice that is not there or one twice, has one class, or has
            no labels for more than half of the images.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), restval=""))
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(
            f"--labels: {path} cannot be read ({type(e).__name__}). Name a CSV, or one of {', '.join(RULES)}."
        ) from e
    if not rows or not {"image", "label"} <= rows[0].keys():
        raise InputError(f"--labels: {path} must have a first line image,label and one line for each image below it.")
    labels: dict[str, str] = {}
    for row in rows:
        if not (label := row["label"].strip()):  # not filled in yet
            continue
        image, _, index = row["image"].rpartition("#")
        ids = [f"{row['image']}#{i}" for i in range(images.get(row["image"], 0))]
        if not ids and index.isdecimal() and int(index) < images.get(image, 0):
            ids = [f"{image}#{int(index)}"]
        if not ids:
            hint = meant(row["image"], images) or "Name images by their paths below the data set's folder."
            raise InputError(f"--labels: {path} names {row['image']}, which the data set does not have. {hint}")
        if twice := labels.keys() & ids:
            raise InputError(f"--labels: {path} names {min(twice)} twice. Leave one label for each slice.")
        labels |= dict.fromkeys(ids, label)
    labelled = {name.rpartition("#")[0] for name in labels}
    if 2 * len(labelled) < len(images):
        raise InputError(
            f"--labels: {path} has labels for {len(labelled)} of {len(images)} images, fewer than half. Label more, or "
            "take a data set of the labelled ones."
        )
    return _of_several(labels, str(path))


def dominant(slices: SliceDataset, names: Sequence[str]) -> dict[str, str]:
    """The structure that fills most of each slice, by the slice's id; ``none`` where there is none.

    Args:
        slices: with labels.
        names: of the classes 1..n.
    """
    counts = slices.class_counts(len(names) + 1).numpy()[:, 1:]
    classes = [names[c] if filled else NONE for c, filled in zip(counts.argmax(1), counts.sum(1), strict=True)]
    return _of_several(dict(zip((item["id"] for item in slices.items), classes, strict=True)), "dominant")


def area(slices: SliceDataset, names: Sequence[str], patients: Collection[str]) -> dict[str, str]:
    """The third that the foreground's area of each slice is in, among slices with any.

    Args:
        slices: with labels.
        names: of the classes 1..n.
        patients: whose slices are cut into thirds; others are held to the same areas.
    """
    areas = slices.class_counts(len(names) + 1).numpy()[:, 1:].sum(axis=1)
    found = thirds(areas, areas[[item["patient"] in patients for item in slices.items]])
    labels = {item["id"]: third for item, third in zip(slices.items, found, strict=True) if third != NONE}
    return _of_several(labels, "area")


def level(slices: SliceDataset, names: Sequence[str], patients: Collection[str]) -> dict[str, str]:
    """Of the structures that each slice shows, the one that is seen in the fewest slices; ``none`` without any.

    Args:
        slices: with labels.
        names: of the classes 1..n.
        patients: whose slices are counted.
    """
    shown = slices.class_counts(len(names) + 1).numpy()[:, 1:] > 0
    seen = shown[[item["patient"] in patients for item in slices.items]].sum(axis=0)
    rarest = np.where(shown, seen, len(shown) + 1).argmin(axis=1)
    classes = [names[c] if some else NONE for c, some in zip(rarest, shown.sum(axis=1), strict=True)]
    return _of_several(dict(zip((item["id"] for item in slices.items), classes, strict=True)), "level")


def thirds(areas: NDArray[np.int64], known: NDArray[np.int64]) -> list[str]:
    """Small, middle or large, by the terciles of those known areas that are above 0; ``none`` for an area of 0.

    Example:
        >>> thirds(np.array([0, 1, 5, 9]), np.array([0, 4, 5, 6]))
        ['none', 'small', 'middle', 'large']
    """
    present = known[known > 0]
    cuts = np.quantile(present, [1 / 3, 2 / 3]) if len(present) else np.zeros(2)
    return [THIRDS[int((a > cuts).sum())] if a else NONE for a in areas.tolist()]


RULES = ("dominant", "area", "level")
"""Rules that make labels of a data set's masks."""


def _of_several(labels: dict[str, str], what: str) -> dict[str, str]:
    if len(classes := set(labels.values())) < 2:
        raise InputError(f"--labels: {what} has one class ({', '.join(classes)}); there is nothing to tell apart.")
    return labels
