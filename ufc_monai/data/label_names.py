"""The names of a data set's classes, and their ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inert
from ufc_monai.base.formats import stem_of
from ufc_monai.data.case import MMWHS_LABELS, read_dataset_json
from ufc_monai.data.datalist import find_cases, require_dataset_dir
from ufc_monai.transforms.labels import LARGEST_ID

IGNORE_NAME = "ignore"
"""What nnU-Net calls the id of voxels without a judgement."""


def find_labels(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int] | None:
    """The classes of a data set, ``{name: id}``; ``None`` if nothing names them.

    Neither background is among them nor nnU-Net's ``ignore``, which :func:`find_ignore_id` finds.

    Args:
        labels: the user's; ``None`` takes them from dataset.json, or MMWHS's where the files are named like its.
        dataset_dir: the data set's folder.

    Raises:
        InputError: if they are not named by such a mapping.
    """
    named = _named_ids(labels, dataset_dir)
    return None if named is None else {name: i for name, i in named.items() if name != IGNORE_NAME}


def find_ignore_id(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> int | None:
    """The id of the voxels that count neither in loss nor metric, if the data set has one: that named ``ignore``.

    Arguments and errors are those of :func:`find_labels`.
    """
    return (_named_ids(labels, dataset_dir) or {}).get(IGNORE_NAME)


def resolve_labels(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int]:
    """The classes of a data set as :func:`find_labels` finds them.

    Raises:
        InputError: as there, and if nothing names the classes, naming the key ``labels``.
    """
    found = find_labels(labels, dataset_dir)
    if found is None:
        raise InputError(
            f"labels: neither given nor found in {Path(dataset_dir, 'dataset.json')}. Name them, e.g. "
            "--labels \"{'liver': 1, 'spleen': 2}\"."
        )
    return found


def _named_ids(labels: Mapping[str, int] | None, dataset_dir: str | os.PathLike[str]) -> dict[str, int] | None:
    if labels is not None:
        return _checked_labels(labels, "labels")
    root = require_dataset_dir(dataset_dir)
    listed = read_dataset_json(root).get("labels", {})
    if not isinstance(listed, dict):
        raise InputError(f"{root / 'dataset.json'}: 'labels' should map names to ids, got {listed!r}.")
    if not listed:
        images = [stem_of(case.image) for case in find_cases(root, include_test_images=True)]
        return dict(MMWHS_LABELS) if all(image.endswith("_image") for image in images) else None
    named = dict[str, int]()
    for key, value in listed.items():
        # in Decathlon's order, or in nnU-Net's
        name, i = (str(value), key) if key.isdecimal() and not str(value).isdecimal() else (key, str(value))
        if not i.isdecimal():
            raise InputError(
                f"{root / 'dataset.json'}: label {key!r} has {value!r} in the place of one id; regions of several ids "
                "are not supported. Name single ids with --labels."
            )
        if named.setdefault(name, int(i)) != int(i):
            raise InputError(
                f"{root / 'dataset.json'}: label {name!r} stands for {named[name]} and {i}. Give each id a name."
            )
    return _checked_labels({name: i for name, i in named.items() if i}, f"{root / 'dataset.json'}, labels")


def _checked_labels(labels: Any, key: str) -> dict[str, int]:
    if not isinstance(labels, Mapping) or not all(
        isinstance(name, str) and type(i) is int and 0 < i <= LARGEST_ID for name, i in labels.items()
    ):
        raise InputError(
            f"labels must map names to ids of 1 to {LARGEST_ID}, like {{'liver': 1, 'spleen': 2}}; got {labels!r}."
        )
    inert(list(labels), key)  # they end up in metadata.json
    return dict(labels)
