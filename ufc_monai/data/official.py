"""A split that came with the data set: ``official_split.json`` in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ufc_monai.base.errors import InputError
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
    role_of = _read(path)
    named = {key: case for case in cases for key in (case.image, stem_of(Path(case.image)))}
    if unknown := [name for name in role_of if name not in named]:
        raise InputError(f"{path}: {len(unknown)} images are not in the folder, e.g. {unknown[0]}. Take them out.")
    found = {named[name].image: role for name, role in role_of.items()}
    if len(found) < len(role_of):
        raise InputError(f"{path}: an image is named twice, by its path and by its name. Name it once.")
    chosen = [replace(case, role=found.get(case.image)) for case in cases]
    patients: dict[str, str | None] = {}
    for case in chosen:
        if patients.setdefault(case.patient, case.role) != case.role:
            raise InputError(f"{path}: patient {case.patient} has volumes in two lists. Put them into one.")
    for role in ("training", "test"):
        if not any(case.role == role and case.label for case in chosen):
            raise InputError(f"{path}: no image of the list '{role}' has a label. Name labelled images there.")
    return chosen


def _read(path: Path) -> dict[str, str]:
    """The role of every image named."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = {role: [str(name) for name in content[role]] for role in ROLES}
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: expected lists {', '.join(ROLES)} of images ({type(e).__name__}: {e}).") from e
    names = [name for named in lists.values() for name in named]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: {twice} is named twice.")
    return {name: role for role, named in lists.items() for name in named}
