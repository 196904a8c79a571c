"""What a ``network.json`` says, checked: a window that is none, or labels of another number, would still give masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ufc_monai.base.bundles import RENAMED
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json


def read_record(path: Path, key: str) -> dict[str, Any]:
    """What a ``network.json`` says; one of an earlier version is completed, its keys by their names of today.

    Args:
        path: the file.
        key: the key that named it, for the error.

    Raises:
        InputError: if it is no JSON object, or one that describes no network.
    """
    network = read_json(path, key)
    parts: dict[str, dict[str, Any]] = {"architecture": {"in_channels": 1}, "preprocessing": {"standardise": False}}
    for name, defaults in parts.items():
        if not isinstance(network.setdefault(name, {}), dict):
            raise InputError(f"{key}: {path} is damaged: {name} should be an object. Copy it anew with its model.pt.")
        network[name] = {**defaults, **network[name]}
    for old in RENAMED.keys() & network.keys():
        network[RENAMED[old]] = network.pop(old)
    if "labels" in network:
        network.setdefault("ignore_id", None)
    if wrong := next(_impossible(network), None):
        raise InputError(f"{key}: {path} is damaged: {wrong}. Copy it anew with its model.pt.")
    return network


def _impossible(network: Mapping[str, Any]) -> Iterator[str]:
    """What no network was trained with."""
    preprocessing, labels = network["preprocessing"], network.get("labels", {})
    size, window = preprocessing.get("image_size", 1), preprocessing.get("window", [0, 1])
    if type(size) is not int or size < 1:
        yield f"image_size should be a whole number above 0, got {size!r}"
    ends = window if isinstance(window, list | tuple) and len(window) == 2 else [1, 0]
    if not all(type(end) in (int, float) and math.isfinite(end) for end in ends) or ends[0] >= ends[1]:
        yield f"window should be two numbers, the lower first, got {window!r}"
    if type(standardise := preprocessing["standardise"]) is not bool:  # a text of false would be true
        yield f"standardise should be true or false, got {standardise!r}"
    if not isinstance(labels, dict):
        yield f"labels should map names to ids, got {labels!r}"
        return
    for name, value in labels.items():
        if type(value) is not int or not 0 < value < 2**16:
            yield f"{name} should be a whole number above 0, got {value!r}"
    if len(set(labels.values())) < len(labels):
        yield f"labels should name each id once, got {labels!r}"
    if (ignored := network.get("ignore_id")) in labels.values():
        yield f"ignore_id {ignored} is the id of a structure, too"
    classes = network["architecture"].get("out_channels", len(labels) + 1)
    if labels and classes != len(labels) + 1:
        yield f"labels name {len(labels)} structures, the network tells {classes} classes apart, background among them"
