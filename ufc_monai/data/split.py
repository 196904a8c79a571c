"""The split: drawing it, and which patients train, validate, test, and in which order their labels are granted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ufc_monai.base.errors import InputError
from ufc_monai.base.files import read_json
from ufc_monai.data.case import ROLES, Case
from ufc_monai.data.datalist import require_dataset_dir

FORMAT = 1
"""Of ``split.json``."""
N_FOLDS = 4
"""Folds of the cross-validation; training : validation : test is 2 : 1 : 1 as in the paper."""
N_DRAWS = 5
"""Label draws: orders in which the labels of the training volumes are granted, one nested list each."""


def make_split(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Draw folds and label orders; the part of ``split.json`` that does not depend on the files' content.

    Fold f tests on part f of four, validates on part f + 1 and trains on the other two. Fewer than 4 labelled patients
    make a single fold in which all of them train. An official split is a single fold, too.
    """
    drawn = np.random.default_rng(seed).permutation(sorted({c.patient for c in cases if c.label})).tolist()
    parts = [sorted(drawn[f::N_FOLDS]) for f in range(N_FOLDS)]
    if any(c.role for c in cases):
        # without a label one cannot train on it, but held out it stays
        known = [c for c in cases if c.label or c.role != "training"]
        folds = [{role: sorted({c.patient for c in known if c.role == role}) for role in ROLES}]
    elif len(drawn) < N_FOLDS:
        folds = [{"training": sorted(drawn), "validation": [], "test": []}]
    else:
        folds = [
            {"training": sorted({*drawn}.difference(validation, test)), "validation": validation, "test": test}
            for test, validation in zip(parts, parts[1:] + parts[:1], strict=True)
        ]
    placed = {patient for patients in folds[0].values() for patient in patients}
    return {
        "format": FORMAT,
        "seed": seed,
        "folds": [
            {**fold, "label_orders": _label_orders(cases, fold["training"], (seed, f))} for f, fold in enumerate(folds)
        ],
        "unlabelled": sorted({c.patient for c in cases} - placed),
    }


def _label_orders(cases: Sequence[Case], training: Sequence[str], seed: tuple[int, int]) -> list[list[str]]:
    images = sorted(c.image for c in cases if c.label and c.patient in training)
    return [np.random.default_rng([*seed, draw]).permutation(images).tolist() for draw in range(N_DRAWS)]


def pretraining_images(split: Mapping[str, Any], fold: int, cases: Iterable[Case]) -> list[str]:
    """The images of stages 1 and 2, before anything is read: what is not held out, and no copy of it.

    Args:
        split: the content of ``split.json``, or what :func:`make_split` draws.
        fold: which fold.
        cases: all volumes.
    """
    known = split["folds"][fold]
    held_out, copies = {*known["validation"], *known["test"]}, known.get("copies", ())
    return [case.image for case in cases if case.patient not in held_out and case.image not in copies]


@dataclass(frozen=True)
class Split:
    """A split of a data set's patients, as read from ``split.json``.

    Attributes:
        dataset_dir: folder of the data set.
        path: the file.
        content: what the file holds, and under ``added`` the images that have got a label since it was drawn.
        sha256: of the file's bytes.
        skipped: what is wrong with each image that is left out of everything.
    """

    dataset_dir: str
    path: str
    content: dict[str, Any]
    sha256: str
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds_out(self) -> bool:
        """Whether there are test patients (4 labelled patients or more, or an official split)."""
        return bool(self.content["folds"][0]["test"])

    def pretraining(self, fold: int) -> list[dict[str, str]]:
        """The volumes of stages 1 and 2: those of the training patients and of every unlabelled patient.

        Raises:
            InputError: if one of them has the voxels of a validation or test patient's.
        """
        chosen = self._images(fold, "training", "unlabelled")
        self._require(chosen, "pretraining", fold)
        self._refuse_leaks(chosen, fold)
        return [Case(image, None, self._case(image).patient).item(self.dataset_dir) for image in chosen]

    def unlabelled(
        self, fold: int, volumes: int | None = None, draw: int = 0, order_path: str | os.PathLike[str] | None = None
    ) -> list[dict[str, str]]:
        """The other volumes of :meth:`pretraining`: those whose labels are missing or not used.

        Arguments and errors are those of :meth:`labelled`.
        """
        used = {item["image"] for item in self.labelled(fold, volumes, draw, order_path)}
        return [item for item in self.pretraining(fold) if item["image"] not in used]

    def labelled(
        self, fold: int, volumes: int | None = None, draw: int = 0, order_path: str | os.PathLike[str] | None = None
    ) -> list[dict[str, str]]:
        """The labelled volumes that fine-tuning may use, nested: the first n of one order.

        Args:
            fold: which fold.
            volumes: the label budget; ``None`` is all of them.
            draw: which order.
            order_path: what ``next`` or a study has chosen, a JSON file whose ``chosen`` volumes are the order instead.

        Raises:
            InputError: without a data set, at an unknown budget, draw or order, or if voxels are held out, too.
        """
        require_dataset_dir(self.dataset_dir)
        orders = self._fold(fold)["label_orders"]
        self._require_number("label_draw", draw, 0, len(orders) - 1)
        self._require(orders[draw], "training", fold)
        order = orders[draw] if order_path is None else self._order(Path(order_path), orders[draw], fold)
        if volumes is not None:
            self._require_number(f"in fold {fold}, labelled_volumes", volumes, 1, len(order), " (or null for all)")
        self._refuse_leaks(order[:volumes], fold)
        return [self._case(image).item(self.dataset_dir) for image in order[:volumes]]

    def validation(self, fold: int) -> list[dict[str, str]]:
        """The labelled volumes of the validation patients; none where nothing was held out."""
        return self._labelled_of(fold, "validation")

    def test(self, fold: int) -> list[dict[str, str]]:
        """The labelled volumes of the test patients.

        Raises:
            InputError: if nothing was held out.
        """
        if not self.holds_out:
            raise InputError(
                f"{self.path} holds out no test patients: fewer than {N_FOLDS} labelled patients. There is nothing to "
                "evaluate on; use inference.json to segment."
            )
        return self._labelled_of(fold, "test")

    def held_out(self, fold: int) -> list[dict[str, str]]:
        """The volumes of the validation and test patients, labelled or not, without their labels."""
        images = self._images(fold, "validation", "test")
        return [Case(image, None, self._case(image).patient).item(self.dataset_dir) for image in images]

    def held_out_sha256(self, fold: int) -> set[str]:
        """The sha256 of every image of the validation and test patients, labelled or not, and of all its copies."""
        images = self.content["images"]
        held_out = {images[image].get("copy_of", image) for image in self._images(fold, "validation", "test")}
        return {entry["sha256"] for image, entry in images.items() if entry.get("copy_of", image) in held_out}

    def image_sha256(self, items: Iterable[dict[str, str]]) -> list[str]:
        """The sha256 of the images of some items of this split."""
        names = (Path(item["image"]).relative_to(os.path.abspath(self.dataset_dir)).as_posix() for item in items)
        return [self.content["images"][name]["sha256"] for name in names]

    def _order(self, path: Path, allowed: Sequence[str], fold: int) -> list[str]:
        chosen = read_json(path, "label_order_path").get("chosen")
        if not isinstance(chosen, list) or not chosen or len(set(map(str, chosen))) < len(chosen):
            raise InputError(f"label_order_path: {path} must list 'chosen' volumes, each once. Choose again.")
        if wrong := [image for image in chosen if image not in allowed]:
            raise InputError(
                f"label_order_path: {path} names {wrong[0]}, which is not a labelled training volume of fold {fold}. "
                "Choose again with this split."
            )
        return chosen

    def _require(self, images: Sequence[Any], part: str, fold: int) -> None:
        """Refuse to go on with nothing because all of a part was left out."""
        if not images and self.skipped:
            image, reason = next(iter(self.skipped.items()))
            raise InputError(
                f"skip_bad: no volume is left for {part} in fold {fold}; {len(self.skipped)} were left out, first "
                f"{image}: {reason} Mend some of them, or take another --fold."
            )

    def _require_number(self, name: str, value: Any, low: int, high: int, note: str = "") -> None:
        if type(value) is not int or not low <= value <= high:
            raise InputError(f"{name} must be {low} to {high}{note}, got {value!r} ({self.path}).")

    def _refuse_leaks(self, images: Iterable[str], fold: int) -> None:
        held_out = self.held_out_sha256(fold)
        for image in images:
            if self.content["images"][image]["sha256"] in held_out:
                raise InputError(
                    f"{image} has the same content as a volume of a validation or test patient of fold {fold}: "
                    f"one scan under two names would leak. Remove one of them, then delete {self.path}."
                )

    def _fold(self, fold: int) -> dict[str, Any]:
        folds: list[dict[str, Any]] = self.content["folds"]
        self._require_number("fold", fold, 0, len(folds) - 1)
        held_out = {*folds[fold]["validation"], *folds[fold]["test"]}
        for image in self.content.get("added", ()):
            if self.content["images"][image]["patient"] in held_out:
                raise InputError(
                    f"{image} has got a label since {self.path} was drawn, and its patient is held out in fold {fold}: "
                    "what judges stays as it was. Take the label away, or draw a new split in another --folder."
                )
        return folds[fold]

    def _images(self, fold: int, *roles: str) -> list[str]:
        """The images of the patients with some roles, without pictures that are held out under another name."""
        known = self._fold(fold)
        role_of = {patient: role for role in ROLES for patient in known[role]}
        images = {i: e for i, e in self.content["images"].items() if i not in known.get("copies", ())}
        return [image for image, entry in images.items() if role_of.get(entry["patient"], "unlabelled") in roles]

    def _case(self, image: str) -> Case:
        entry = self.content["images"][image]
        return Case(image, entry["label"], entry["patient"])

    def _labelled_of(self, fold: int, role: str) -> list[dict[str, str]]:
        cases = [self._case(image) for image in self._images(fold, role)]
        found = [case.item(self.dataset_dir) for case in cases if case.label]
        if self._fold(fold)[role]:
            self._require(found, role, fold)
        return found
