"""The split: which patients train, validate, test, and in which order their labels are granted.

It is drawn once, by patient, and written to ``split.json``; every later stage takes it over by path and sha256.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ufc_monai.bundles import VAE
from ufc_monai.data.datalist import Case, find_cases, require_dataset_dir
from ufc_monai.data.duplicates import find_copies, perceptual_hashes
from ufc_monai.data.official import ROLES
from ufc_monai.errors import InputError
from ufc_monai.files import read_json, sha256_of, size_of, write_json
from ufc_monai.formats import PICTURES, suffix_of
from ufc_monai.ranks import first_rank

__all__ = ["Split", "make_split", "open_split", "shared_split_path"]

logger = logging.getLogger(__name__)

N_FOLDS = 4
"""Folds of the cross-validation; training : validation : test is 2 : 1 : 1 as in the paper."""
N_DRAWS = 5
"""Label draws: orders in which the labels of the training volumes are granted, one nested list each."""
FORMAT = 1


@dataclass(frozen=True)
class Split:
    """A split of a data set's patients, as read from ``split.json``.

    Attributes:
        dataset_dir: folder of the data set.
        path: the file.
        content: what the file holds.
        sha256: of the file's bytes.
    """

    dataset_dir: str
    path: str
    content: dict[str, Any]
    sha256: str

    @property
    def holds_out(self) -> bool:
        """Whether there are test patients (4 labelled patients or more, or an official split)."""
        return bool(self.content["folds"][0]["test"])

    def pretraining(self, fold: int) -> list[dict[str, str]]:
        """The volumes of stages 1 and 2: those of the training patients and of every unlabelled patient.

        Raises:
            InputError: if the file of one of them is, byte for byte, that of a validation or test patient.
        """
        chosen = [image for image, role in self._roles(fold).items() if role in ("training", "unlabelled")]
        self._refuse_leaks(chosen, fold)
        return [Case(image, None, self._case(image).patient).item(self.dataset_dir) for image in chosen]

    def labelled(
        self, fold: int, volumes: int | None = None, draw: int = 0, order_path: str | os.PathLike[str] | None = None
    ) -> list[dict[str, str]]:
        """The labelled volumes that fine-tuning may use, nested: the first n of one order.

        Args:
            fold: which fold.
            volumes: the label budget; ``None`` is all of them.
            draw: which order.
            order_path: a ``selection.json`` whose ``chosen`` volumes are the order instead.

        Raises:
            InputError: without a data set, at a budget, draw or order that there is not, or if bytes are held out,
                too.
        """
        require_dataset_dir(self.dataset_dir)
        orders = self._fold(fold)["label_orders"]
        if not 0 <= draw < len(orders):
            raise InputError(f"label_draw must be 0 to {len(orders) - 1}, got {draw} ({self.path}).")
        order = orders[draw] if order_path is None else self._order(Path(order_path), orders[draw], fold)
        if volumes is not None and not 1 <= volumes <= len(order):
            raise InputError(
                f"labelled_volumes must be 1 to {len(order)} (or null for all) in fold {fold}, got {volumes}."
            )
        self._refuse_leaks(order[:volumes], fold)
        return [self._case(image).item(self.dataset_dir) for image in order[:volumes]]

    def validation(self, fold: int) -> list[dict[str, str]]:
        """The labelled volumes of the validation patients; none where nothing was held out."""
        return self._labelled_of(self._fold(fold)["validation"])

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
        return self._labelled_of(self._fold(fold)["test"])

    def held_out_sha256(self, fold: int) -> set[str]:
        """The sha256 of every image of the validation and test patients, labelled or not."""
        roles = self._roles(fold)
        return {
            entry["sha256"] for image, entry in self.content["images"].items() if roles[image] in ("validation", "test")
        }

    def image_sha256(self, items: Iterable[dict[str, str]]) -> list[str]:
        """The sha256 of the images of some items of this split."""
        names = (os.path.relpath(item["image"], os.path.abspath(self.dataset_dir)) for item in items)
        return [self.content["images"][name.replace(os.sep, "/")]["sha256"] for name in names]

    def _order(self, path: Path, allowed: Sequence[str], fold: int) -> list[str]:
        chosen: list[str] = read_json(path, "label_order_path").get("chosen", [])
        if wrong := [image for image in chosen if image not in allowed]:
            raise InputError(
                f"label_order_path: {path} names {wrong[0]}, which is no labelled training volume of fold {fold}. "
                "Choose anew with this split."
            )
        if not chosen or len(set(chosen)) < len(chosen):
            raise InputError(f"label_order_path: {path} must list 'chosen' volumes, each once. Choose anew.")
        return chosen

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
        if not 0 <= fold < len(folds):
            raise InputError(f"fold must be 0 to {len(folds) - 1}, got {fold} ({self.path}).")
        return folds[fold]

    def _roles(self, fold: int) -> dict[str, str]:
        roles = {p: role for role in ("training", "validation", "test") for p in self._fold(fold)[role]}
        copies = dict.fromkeys(self._fold(fold).get("copies", ()), "copy")
        return {i: copies.get(i) or roles.get(e["patient"], "unlabelled") for i, e in self.content["images"].items()}

    def _case(self, image: str) -> Case:
        entry = self.content["images"][image]
        return Case(image, entry["label"], entry["patient"])

    def _labelled_of(self, patients: Sequence[str]) -> list[dict[str, str]]:
        cases = [self._case(image) for image in self.content["images"]]
        return [c.item(self.dataset_dir) for c in cases if c.label and c.patient in patients]


def make_split(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Draw folds and label orders; the part of ``split.json`` that does not depend on the files' content.

    Fold f tests on part f of four, validates on part f + 1 and trains on the other two. Fewer than 4 labelled patients
    make a single fold in which all of them train. An official split is a single fold, too.
    """
    labelled = sorted({c.patient for c in cases if c.label})
    drawn = np.random.default_rng(seed).permutation(labelled).tolist()
    if any(c.role for c in cases):
        # without a label one cannot train on it, but held out it stays
        trains = [c for c in cases if c.label or c.role != "training"]
        of_role = {role: sorted({c.patient for c in trains if c.role == role}) for role in ROLES}
        folds = [of_role]
        labelled = [patient for patients in of_role.values() for patient in patients]
    elif len(labelled) < N_FOLDS:
        folds = [{"training": sorted(drawn), "validation": [], "test": []}]
    else:
        parts = [sorted(drawn[f::N_FOLDS]) for f in range(N_FOLDS)]
        folds = []
        for f in range(N_FOLDS):
            test, validation = parts[f], parts[(f + 1) % N_FOLDS]
            folds.append(
                {"training": sorted(set(drawn) - {*test, *validation}), "validation": validation, "test": test}
            )
    return {
        "format": FORMAT,
        "seed": seed,
        "folds": [
            {**fold, "label_orders": _label_orders(cases, fold["training"], (seed, f))} for f, fold in enumerate(folds)
        ],
        "unlabelled": sorted({c.patient for c in cases} - set(labelled)),
    }


def open_split(
    path: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    seed: int = 0,
    sha256: str | None = None,
    required: bool = True,
) -> Split:
    """Take over the split at ``path``, or draw and write it if there is none.

    Args:
        path: the ``split.json``.
        dataset_dir: folder of the data set.
        seed: of the draw.
        sha256: the content that an earlier stage worked with; then the file has to be there, and the same.
        required: ``False`` gives an empty split, which holds nothing out, where no ``dataset_dir`` is named.

    Raises:
        InputError: if the split was made for other files, with another seed, or is not the earlier stage's.
    """
    if not required and not os.fspath(dataset_dir):
        return Split("", "", make_split([], seed) | {"images": {}}, "")
    cases = find_cases(dataset_dir)
    path = Path(path)
    if sha256 is not None and (not path.is_file() or sha256_of(path) != sha256):
        raise InputError(
            f"split_path: {path} is not the split that the stage before worked with (sha256 {sha256[:8]}...). "
            "Name that one with --split_path, or run the stages again from the first."
        )
    with first_rank():
        if not path.exists():
            _write_split(path, cases, os.fspath(dataset_dir), seed)
    content = read_json(path, "split_path")
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: expected a split of format {FORMAT}, got {content.get('format')}. Delete it.")
    _check_same_files(content, cases, path, require_dataset_dir(dataset_dir))
    if content["seed"] != seed:
        raise InputError(
            f"{path} was drawn with split_seed {content['seed']}, not {seed}. Pass --split_seed {content['seed']}, "
            "or another --split_path."
        )
    return Split(os.fspath(dataset_dir), os.fspath(path), content, sha256_of(path))


def shared_split_path(bundle_root: str | os.PathLike[str]) -> str:
    """Where the last stage finds the split: stage 1's beside its bundle, or its own if it is run alone."""
    beside = Path(bundle_root, "..", VAE, "eval", "split.json")
    return os.fspath(beside if beside.is_file() else Path(bundle_root, "eval", "split.json"))


def _label_orders(cases: Sequence[Case], training: Sequence[str], seed: tuple[int, int]) -> list[list[str]]:
    images = sorted(c.image for c in cases if c.label and c.patient in training)
    return [np.random.default_rng([*seed, draw]).permutation(images).tolist() for draw in range(N_DRAWS)]


def _write_split(path: Path, cases: Sequence[Case], dataset_dir: str, seed: int) -> None:
    split = make_split(cases, seed)
    root = Path(dataset_dir)
    split["images"] = {
        c.image: {
            "patient": c.patient,
            "label": c.label,
            "bytes": size_of(root / c.image),
            "sha256": sha256_of(root / c.image),
        }
        for c in tqdm(cases, "hashing", unit="volume", disable=None)
    }
    if all(suffix_of(Path(c.image)) in PICTURES for c in cases):
        _take_out_copies(split, cases, root)
    write_json(path, split)
    first = split["folds"][0]
    logger.info(
        "split of %d labelled and %d unlabelled patients written to %s (fold 0: %d training, %d validation, %d test)",
        len(first["training"]) + len(first["validation"]) + len(first["test"]),
        len(split["unlabelled"]),
        path,
        *(len(first[role]) for role in ("training", "validation", "test")),
    )
    if not first["test"]:
        logger.warning(
            "fewer than %d labelled patients: nothing is held out. All labels train for a fixed number of steps, the "
            "last weights are kept, and there is no test Dice.",
            N_FOLDS,
        )


def _take_out_copies(split: dict[str, Any], cases: Sequence[Case], root: Path) -> None:
    """Of pictures that are in training and held out, keep the latter: note the copies, and grant no labels of them."""
    images = [c.image for c in cases]
    hashes = dict(zip(images, perceptual_hashes(root, images).tolist(), strict=True))
    sha256 = {image: split["images"][image]["sha256"] for image in images}
    for f, fold in enumerate(split["folds"]):
        away = {*fold["validation"], *fold["test"]}
        held_out = [c.image for c in cases if c.patient in away]
        exact, alike = find_copies([c.image for c in cases if c.patient not in away], held_out, sha256, hashes)
        fold["copies"] = sorted(exact | alike)
        fold["label_orders"] = [[i for i in order if i not in exact | alike] for order in fold["label_orders"]]
        logger.info(
            "fold %d: taken out of training, since validation or test hold them: %d pictures with the same bytes, %d "
            "that look the same",
            f, len(exact), len(alike),
        )  # fmt: skip


def _check_same_files(content: dict[str, Any], cases: Sequence[Case], path: Path, root: Path) -> None:
    known: dict[str, Any] = content["images"]
    now = {c.image: c for c in cases}
    both = now.keys() & known
    changes = {
        "new": now.keys() - known,
        "gone": known.keys() - now,
        "with other content": {i for i in both if size_of(root / i) != known[i]["bytes"]},
        "with another label": {i for i in both if now[i].label != known[i]["label"]},
        "of another patient": {i for i in both if now[i].patient != known[i]["patient"]},
    }
    if any(changes.values()):
        said = "; ".join(f"{len(i)} {change}, e.g. {min(i)}" for change, i in changes.items() if i)
        raise InputError(
            f"{path} was made for other files than those of {root} ({said}). Take a new --folder (of a bundle: "
            f"--split_path), or delete {path.resolve()} to draw a new split and start again from stage 1."
        )
