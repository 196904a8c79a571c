"""A split that came with the data set: ``official_split.json`` in its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json
from ufc_monai.base.formats import stem_of
from ufc_monai.data.case import Case

OFFICIAL = "official_split.json"
ROLES = ("training", "validation", "test")


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
    for role in ("training", "test"):
        if not any(case.role == role and case.label for case in chosen):
            raise InputError(f"{path}: no image of the list '{role}' has a label. Name labelled images there.")
    return chosen
