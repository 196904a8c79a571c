"""``split.json``: drawn and written by the first stage, checked and taken over by all others."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ufc_monai.base.bundles import VAE
from ufc_monai.base.errors import InputError
from ufc_monai.base.files import found_json, read_json, sha256_of, size_of, stamp_of, write_json
from ufc_monai.base.formats import PICTURES, suffix_of
from ufc_monai.base.ranks import first_rank
from ufc_monai.data.case import OFFICIAL, ROLES, Case
from ufc_monai.data.datalist import find_cases, require_dataset_dir
from ufc_monai.data.problems import find_copies, perceptual_hashes, without_bad
from ufc_monai.data.split import FORMAT, N_FOLDS, Split, make_split

logger = logging.getLogger(__name__)


CHANGES = {"bytes": "with other content", "label": "with another label", "patient": "of another patient"}
"""How an image differs from what a split says of it."""


def open_split(
    path: str | os.PathLike[str],
    dataset_dir: str | os.PathLike[str],
    seed: int = 0,
    sha256: str | None = None,
    required: bool = True,
    skip_bad: bool = False,
    include_test_images: bool = False,
) -> Split:
    """Take over the split at ``path``, or draw and write it if there is none.

    Labels that volumes have got since it was drawn train, behind those of all orders, and change neither the file nor
    what is held out.

    Args:
        path: the ``split.json``.
        dataset_dir: folder of the data set.
        seed: of the draw.
        sha256: the content that an earlier stage worked with; then the file has to be there, and the same.
        required: ``False`` gives an empty split, which holds nothing out, where no ``dataset_dir`` is named.
        skip_bad: leave out the volumes whose image or label is a bad file, see :func:`without_bad`. A split that is
            drawn does not have them; of one that is there they are left out, and the file stays as it is.
        include_test_images: draw a split with the test images, see :func:`find_cases`. One that is there says itself
            whether it has them.

    Raises:
        InputError: if the split was made for other files, with another seed, is not the earlier stage's, or is damaged.
    """
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"split_seed must be a whole number of 0 or more, got {seed!r}.")
    if not required and not os.fspath(dataset_dir):
        return Split("", "", make_split([], seed) | {"images": {}}, "")
    path = Path(path)
    cases = find_cases(dataset_dir, include_test_images or _has_test_images(path, dataset_dir))
    cases, skipped = without_bad(cases, dataset_dir) if skip_bad else (cases, {})
    if sha256 is not None and (not path.is_file() or sha256_of(path) != sha256):
        raise InputError(
            f"split_path: {path} is not the split that the stage before worked with (sha256 {sha256[:8]}...). "
            "Name that one with --split_path, or run the stages again from the first.\n"
            "Weights that came with the bundle or were downloaded know other patients: train stage 1 on yours first, "
            "or have MONAI Label paint slices with the nearest of the clusters that came with ufc_feature_vae."
        )
    with first_rank():
        if not path.exists():
            _write_split(path, cases, os.fspath(dataset_dir), seed, skipped)
    content = _left_out(_read_split(path), skipped)
    added = _check_same_files(content, cases, path, require_dataset_dir(dataset_dir))
    if content["seed"] != seed:
        raise InputError(
            f"{path} was drawn with split_seed {content['seed']}, not {seed}. Pass --split_seed {content['seed']}, "
            "or another --split_path."
        )
    return Split(os.fspath(dataset_dir), os.fspath(path), _with_added(content, added), sha256_of(path), skipped)


def shared_split_path(bundle_root: str | os.PathLike[str]) -> str:
    """Where the last stage finds the split: stage 1's beside its bundle, or its own if it is run alone."""
    beside = Path(bundle_root, "..", VAE, "eval", "split.json")
    return os.fspath(beside if beside.is_file() else Path(bundle_root, "eval", "split.json"))


def _has_test_images(path: Path, dataset_dir: str | os.PathLike[str]) -> bool:
    known = _read_split(path)["images"] if path.is_file() else {}
    everyone = find_cases(dataset_dir, include_test_images=True)
    # those that the official split names are taken in anyway, and say nothing of the others
    return any(case.of_test_set and not case.role and case.image in known for case in everyone)


def _read_split(path: Path) -> dict[str, Any]:
    content = read_json(path, "split_path")
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: expected a split of format {FORMAT}, got {content.get('format')}. Delete it.")
    try:
        images = {i: [e[key] for key in ("patient", "label", "bytes", "sha256")] for i, e in content["images"].items()}
        named = {patient for fold in content["folds"] for role in ROLES for patient in fold[role]}
        granted = {image for fold in content["folds"] for order in fold["label_orders"] for image in order}
    except (AttributeError, KeyError, TypeError) as e:
        raise InputError(f"split_path: {path} is damaged ({type(e).__name__}: {e}). Delete it to draw it again.") from e
    if strange := sorted((named - {facts[0] for facts in images.values()}) | (granted - images.keys())):
        raise InputError(
            f"split_path: {path} names {strange[0]}, which has no image there. Delete it to draw it again."
        )
    if not (content["folds"] and {"seed", "unlabelled"} <= content.keys()):
        raise InputError(f"split_path: {path} lacks folds, seed or unlabelled patients. Delete it to draw it again.")
    return content


def _left_out(content: dict[str, Any], skipped: Mapping[str, str]) -> dict[str, Any]:
    """What a split holds, without some of its images; patients keep their roles."""
    images = {image: entry for image, entry in content["images"].items() if image not in skipped}
    folds = [
        {**fold, "label_orders": [[i for i in order if i in images] for order in fold["label_orders"]]}
        for fold in content["folds"]
    ]
    return {**content, "images": images, "folds": folds}


def _with_added(content: dict[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    """What a split holds, with labels that were added; their patients train where they are not held out."""
    images = {**content["images"], **{i: {**content["images"][i], "label": label} for i, label in added.items()}}
    patients, folds = {images[image]["patient"] for image in added}, []
    for fold in content["folds"]:
        joining = patients.difference(fold["validation"], fold["test"])
        new = sorted(i for i in added if images[i]["patient"] in joining and i not in fold.get("copies", ()))
        orders = [[*order, *new] for order in fold["label_orders"]]
        folds.append({**fold, "training": sorted({*fold["training"], *joining}), "label_orders": orders})
    unlabelled = [patient for patient in content["unlabelled"] if patient not in patients]
    return {**content, "images": images, "folds": folds, "unlabelled": unlabelled, "added": sorted(added)}


def _write_split(path: Path, cases: Sequence[Case], dataset_dir: str, seed: int, skipped: Mapping[str, str]) -> None:
    split = make_split(cases, seed) | ({"skipped": dict(skipped)} if skipped else {})
    root = Path(dataset_dir)
    split["images"] = {}
    stamps = {c.image: stamp_of(root / c.image) for c in cases}
    for c in tqdm(cases, "hashing", unit="volume", disable=None):
        split["images"][c.image] = _facts(c, root) | {"sha256": sha256_of(root / c.image)}
    pictures = all(suffix_of(Path(c.image)) in PICTURES for c in cases)
    if not pictures:
        _note_copies(split["images"], root)
    if any(c.role for c in cases):
        logger.info("patients train, validate and test as %s says", root / OFFICIAL)
    if pictures:
        _take_out_copies(split, cases, root)
    write_json(path, split)
    _keep_stamps(path, {image: [stamp, split["images"][image]["sha256"]] for image, stamp in stamps.items()})
    n = [len(split["folds"][0][role]) for role in ROLES]
    logger.info(
        "split of %d labelled and %d unlabelled patients written to %s (fold 0: %d training, %d validation, %d test)",
        sum(n), len(split["unlabelled"]), path, *n,
    )  # fmt: skip
    if not n[-1]:
        logger.warning(
            "fewer than %d labelled patients: nothing is held out. All labels train for a fixed number of steps, the "
            "last weights are kept, and there is no test Dice.",
            N_FOLDS,
        )


def _note_copies(images: dict[str, dict[str, Any]], root: Path) -> None:
    """Note which volumes hold the voxels of another whose file differs: it was compressed anew, or converted."""
    from ufc_monai.data.inspect import digests_of_alike

    first_of: dict[str, str] = {}
    for image, digest in digests_of_alike(root, list(images)).items():
        if (first := first_of.setdefault(digest, image)) != image:
            images[image]["copy_of"] = first


def _facts(case: Case, root: Path) -> dict[str, Any]:
    return {"patient": case.patient, "label": case.label, "bytes": size_of(root / case.image)}


def _take_out_copies(split: dict[str, Any], cases: Sequence[Case], root: Path) -> None:
    """Of pictures that are in training and held out, keep the latter: note the copies, and grant no labels of them."""
    hashes = perceptual_hashes(root, [c.image for c in cases])
    sha256 = {image: entry["sha256"] for image, entry in split["images"].items()}
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


def _check_same_files(content: dict[str, Any], cases: Sequence[Case], path: Path, root: Path) -> dict[str, str]:
    """Refuse files that a split was not drawn for.

    Returns:
        By image, the labels that were added; of a split without any label none may be: it would hold nothing out.
    """
    known: dict[str, Any] = content["images"]
    now = {c.image: _facts(c, root) for c in cases}
    changes = {"new": now.keys() - known, "gone": known.keys() - now}
    for fact, change in CHANGES.items():
        changes[change] = {i for i in now.keys() & known if now[i][fact] != known[i][fact]}
    some = any(order for fold in content["folds"] for order in fold["label_orders"])
    relabelled = changes[CHANGES["label"]] if some else set()
    added = {i: str(now[i]["label"]) for i in relabelled if known[i]["label"] is None}
    changes[CHANGES["label"]] -= added.keys()
    changes[CHANGES["bytes"]] |= _other_content(path, root, {i: known[i]["sha256"] for i in now.keys() & known})
    left_out = changes["new"] & content.get("skipped", {}).keys()
    if left_out and left_out == set().union(*changes.values()):
        raise InputError(
            f"{path} was drawn without {len(left_out)} bad volumes, e.g. {min(left_out)}, by --skip_bad True: pass "
            "that to every stage. If they are mended, delete the file and start again from stage 1."
        )
    if any(changes.values()):
        said = "; ".join(f"{len(i)} {change}, e.g. {min(i)}" for change, i in changes.items() if i)
        raise InputError(
            f"{path} was made for other files than those of {root} ({said}). Take a new --folder (of a bundle: "
            f"--split_path), or delete {path.resolve()} to draw a new split and start again from stage 1."
        )
    return added


def _other_content(path: Path, root: Path, known: Mapping[str, str]) -> set[str]:
    """The images that no longer have the sha256 that a split knows; an untouched one is not read again."""
    stamps = {image: [stamp_of(root / image), sha256] for image, sha256 in known.items()}
    before: dict[str, Any] = {}
    with contextlib.suppress(InputError, OSError):  # else all are read
        before = found_json(_beside(path), "split_path")
    touched = [image for image, stamp in stamps.items() if before.get(image) != stamp]
    changed = {image for image in touched if sha256_of(root / image) != known[image]}
    if touched and not changed:
        _keep_stamps(path, before | stamps)
    return changed


def _keep_stamps(path: Path, stamps: Mapping[str, Any]) -> None:
    with contextlib.suppress(InputError, OSError):  # where nothing may be written, images are read each time
        write_json(_beside(path), stamps)


def _beside(path: Path) -> Path:
    """Where it stands of which files the images of a split have been read: ``[stamp, sha256]`` of each."""
    return path.with_suffix(".checked.json")
