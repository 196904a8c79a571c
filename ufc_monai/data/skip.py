"""Going on without the volumes whose files are bad, as ``--skip_bad True`` asks for; each of them is named."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ufc_monai.base.errors import InputError
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import image_items
from ufc_monai.data.dataset_json import ROLES

logger = logging.getLogger(__name__)


class Scans(NamedTuple):
    """What is to be segmented.

    Attributes:
        items: the images, as :func:`image_items` gives them.
        skipped: what is wrong with each image that was left out, by its path.
    """

    items: list[dict[str, str]]
    skipped: dict[str, str]


def bad_volumes(cases: Sequence[Case], dataset_dir: str | os.PathLike[str]) -> dict[str, str]:
    """What is wrong with each volume whose image or label is a bad file, by image. All files are read."""
    from ufc_monai.data.inspect import inspect_cases

    facts = inspect_cases(dataset_dir, cases)
    return {f.image: p.text for f in facts for p in f.problems if p.bad_file}


def without_bad(
    cases: Sequence[Case], dataset_dir: str | os.PathLike[str], skipped: Mapping[str, str] | None = None
) -> tuple[list[Case], dict[str, str]]:
    """The volumes that can be used, and what is wrong with each of the others, by image; a warning names each.

    Args:
        cases: all volumes.
        dataset_dir: their folder.
        skipped: what is wrong, where that is known already.

    Raises:
        InputError: if nothing is left; of the labels, or of those for training, validation or test, neither.
    """
    skipped = bad_volumes(cases, dataset_dir) if skipped is None else dict(skipped)
    for image, reason in skipped.items():
        logger.warning("skip_bad: %s is left out: %s", image, reason)
    good = [case for case in cases if case.image not in skipped]
    parts = {"": cases, "labelled ": [case for case in cases if case.label]}
    parts |= {f"labelled {role} ": [c for c in cases if c.role == role and c.label] for role in ROLES}
    for part, members in parts.items():
        if members and all(case.image in skipped for case in members):
            first = members[0].image
            raise InputError(
                f"skip_bad: none of the {len(members)} {part}volumes of {dataset_dir} can be used, so nothing is left "
                f"to go on with. First {first}: {skipped[first]}"
            )
    return good, skipped


def open_scans(dataset_dir: str | os.PathLike[str], unlabelled_only: bool = False, skip_bad: bool = False) -> Scans:
    """The images of a folder, for inference.

    Args:
        dataset_dir: as in :func:`image_items`.
        unlabelled_only: leave out the images that have a label.
        skip_bad: leave out those that cannot be read; all of them are read to find out.

    Raises:
        InputError: as :func:`image_items`, and if nothing is left.
    """
    items = image_items(dataset_dir, unlabelled_only)
    if not skip_bad:
        return Scans(items, {})
    cases = [Case(item["image"], None, item["patient"]) for item in items]
    _, skipped = without_bad(cases, dataset_dir)
    return Scans([item for item in items if item["image"] not in skipped], skipped)
