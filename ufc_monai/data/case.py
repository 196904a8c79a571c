"""One volume of a data set, and what the data set says of its volumes: ``dataset.json``, ``official_split.json``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import inside, is_writable, read_json
from ufc_monai.base.formats import is_dicom_series, stem_of
from ufc_monai.data.names import patients_of, read_name

MMWHS_LABELS = {
    "left_ventricle": 500,
    "right_ventricle": 600,
    "left_atrium": 420,
    "right_atrium": 550,
    "myocardium": 205,
    "aorta": 820,
    "pulmonary_artery": 850,
}
"""Structures of the Multi-Modality Whole Heart Segmentation challenge 2017 and their ids in its label files."""

OFFICIAL = "official_split.json"
ROLES = ("training", "validation", "test")
LABELLED_LISTS = ("training", "validation")
"""Lists of a dataset.json whose images may have labels; the split is drawn from both."""
UNLABELLED_LISTS = ("unlabelled", "unlabeled", "test")
"""Lists of a dataset.json whose images come without labels."""


@dataclass(frozen=True)
class Case:
    """One volume of a data set.

    Attributes:
        image: path of the image relative to the data set's folder, with forward slashes.
        label: path of its label, or ``None``.
        patient: its patient; patients are what is split, never volumes or slices.
        role: ``training``, ``validation`` or ``test`` where the data set has an official split.
        of_test_set: whether it lies where data sets keep a test set: ``imagesTs``, or dataset.json's list ``test``.
        named: whether ``dataset.json`` names its patient.
    """

    image: str
    label: str | None
    patient: str
    role: str | None = None
    of_test_set: bool = field(default=False, compare=False)
    named: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        for name in (self.image, self.label or "", self.patient):
            if not is_writable(name):
                raise InputError(f"dataset_dir: the name {name!a} holds characters that are none. Rename it.")

    def item(self, dataset_dir: str | os.PathLike[str]) -> dict[str, str]:
        """The volume as MONAI's transforms take it: absolute paths under ``image`` and, if any, ``label``."""
        root = os.path.abspath(dataset_dir)
        item = {"image": os.path.join(root, self.image), "patient": self.patient}
        return item if self.label is None else item | {"label": os.path.join(root, self.label)}


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
    for name in (*LABELLED_LISTS, *UNLABELLED_LISTS):
        listed = [_listed_case(entry, root) for entry in _entries(content, name, root)]
        if name in UNLABELLED_LISTS and any(case.label for case in listed):
            raise InputError(
                f"{root / 'dataset.json'}: the list '{name}' holds labels. ufc_monai draws the test patients itself: "
                "move labelled entries to 'training', or take them out of the folder to keep them unseen."
            )
        cases += [replace(case, of_test_set=name == "test") for case in listed]
    patients = patients_of([read_name(case.image).scan for case in cases])
    return [case if case.patient else replace(case, patient=p) for case, p in zip(cases, patients, strict=True)]


def _entries(content: Mapping[str, Any], name: str, root: Path) -> list[dict[str, Any]]:
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


def _listed_case(entry: Mapping[str, Any], root: Path) -> Case:
    """The volume of an entry; its patient is empty where the entry names none."""
    paths = {}
    for key in ("image", "label"):
        if entry.get(key):
            paths[key] = os.path.relpath(root / entry[key], root).replace(os.sep, "/")
            inside(root, paths[key], f"{root / 'dataset.json'}, {key}")
            if not ((root / paths[key]).is_file() or (key == "image" and is_dicom_series(root / paths[key]))):
                raise InputError(f"{root / 'dataset.json'} lists {entry[key]}, which does not exist under {root}.")
    if "image" not in paths:
        raise InputError(f"{root / 'dataset.json'}: entry {dict(entry)!r:.80} has no 'image'.")
    patient = entry.get("patient", "")
    named = isinstance(patient, str | int) and not isinstance(patient, bool) and bool(str(patient).strip())
    if "patient" in entry and not named:
        raise InputError(
            f"{root / 'dataset.json'}: the patient of {paths['image']} is {patient!r:.80}, which names nobody. Name "
            "the patient, or take the key out where every volume is a patient of its own."
        )
    return Case(paths["image"], paths.get("label"), str(patient), named=named)


def with_roles(cases: Sequence[Case], root: Path) -> list[Case]:
    """Give each volume the role that the official split gives it; those that it does not name have none.

    The file holds lists ``training``, ``validation`` and ``test`` of images: paths relative to the data set's folder,
    or file names without folder and ending.

    Raises:
        InputError: if the file is damaged, names an image that is not there, an image or a patient twice, or leaves
            training or test without labels.
    """
    path = root / OFFICIAL
    if not path.is_file():
        return list(cases)
    content = read_json(path, "dataset_dir")
    if not all(isinstance(content.get(role), list) for role in ROLES):
        raise InputError(f"{path}: expected lists {', '.join(ROLES)} of images.")
    image_of = {name: case.image for case in cases for name in (case.image, stem_of(case.image))}
    names = [(str(name), role) for role in ROLES for name in content[role]]
    images = {case.image for case in cases}
    common = Counter(stem_of(case.image) for case in cases)
    if unclear := [name for name, _ in names if name not in images and common[name] > 1]:
        raise InputError(f"{path}: {common[unclear[0]]} images are called {unclear[0]}. Name them by their paths.")
    if unknown := [name for name, _ in names if name not in image_of]:
        raise InputError(f"{path}: {len(unknown)} images are not in the folder, e.g. {unknown[0]}. Take them out.")
    found = {image_of[name]: role for name, role in names}
    if len(found) < len(names):
        twice, _ = Counter(image_of[name] for name, _ in names).most_common(1)[0]
        raise InputError(f"{path}: {twice} is named twice. Name it once, by its path or by its name.")
    chosen = [replace(case, role=found.get(case.image)) for case in cases]
    patients: dict[str, str | None] = {}
    for case in chosen:
        if patients.setdefault(case.patient, case.role) != case.role:
            raise InputError(f"{path}: patient {case.patient} has volumes in two lists. Put them into one.")
    for role in ("training", "test") if any(case.label for case in chosen) else ():  # without masks none is lacking
        if not any(case.role == role and case.label for case in chosen):
            raise InputError(f"{path}: no image of the list '{role}' has a label. Name labelled images there.")
    return chosen
