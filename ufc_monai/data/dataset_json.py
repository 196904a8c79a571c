"""A data set's ``dataset.json``, as the Medical Segmentation Decathlon has it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inside, read_json
from ufc_monai.base.formats import is_dicom_series, stem_of
from ufc_monai.data.case import Case

UNLABELLED_LISTS = ("unlabelled", "unlabeled", "test")
"""Lists of a dataset.json whose images come without labels."""


def read_dataset_json(root: Path) -> dict[str, Any]:
    """What the file in a folder says; nothing if there is none.

    Raises:
        InputError: if it is no JSON object.
    """
    path = root / "dataset.json"
    if not path.is_file():
        return {}
    return read_json(path, "dataset_dir")


def listed_cases(root: Path) -> list[Case]:
    """The volumes that the file lists; none if it lists none for training.

    Raises:
        InputError: if a list is damaged, names a file that is not there, or holds labels where none belong.
    """
    content = read_dataset_json(root)
    if not content.get("training"):
        return []
    cases: list[Case] = []
    for name in ("training", *UNLABELLED_LISTS):
        listed = [_listed_case(entry, root) for entry in _entries(content, name, root)]
        if name != "training" and any(case.label for case in listed):
            raise InputError(
                f"{root / 'dataset.json'}: the list '{name}' holds labels. ufc_monai draws the test patients itself: "
                "move labelled entries to 'training', or take them out of the folder to keep them unseen."
            )
        cases += [replace(case, of_test_set=name == "test") for case in listed]
    return cases


def plain_stem(path: Path) -> str:
    """The name without suffix and without nnU-Net's channel number."""
    return stem_of(path).removesuffix("_0000")


def _entries(content: Mapping[str, Any], name: str, root: Path) -> list[dict[str, str]]:
    listed = content.get(name, [])
    entries = [{"image": e} if isinstance(e, str) else e for e in listed] if isinstance(listed, list) else [listed]
    if not isinstance(listed, list) or not all(
        isinstance(e, dict) and all(isinstance(e.get(key, ""), str) for key in ("image", "label")) for e in entries
    ):
        raise InputError(
            f"{root / 'dataset.json'}: '{name}' should list paths, or entries like {{'image': 'a.nii.gz', 'label': "
            f"'b.nii.gz'}}; got {str(listed)[:80]}."
        )
    return entries


def _listed_case(entry: Mapping[str, str], root: Path) -> Case:
    paths = {}
    for key in ("image", "label"):
        if entry.get(key):
            paths[key] = os.path.relpath(root / entry[key], root).replace(os.sep, "/")
            inside(root, paths[key], f"{root / 'dataset.json'}, {key}")
            if not ((root / paths[key]).is_file() or (key == "image" and is_dicom_series(root / paths[key]))):
                raise InputError(f"{root / 'dataset.json'} lists {entry[key]}, which does not exist under {root}.")
    if "image" not in paths:
        raise InputError(f"{root / 'dataset.json'}: entry {dict(entry)} has no 'image'.")
    patient = entry.get("patient", plain_stem(Path(paths["image"])))
    return Case(paths["image"], paths.get("label"), str(patient))
