"""Options that several commands share, and what their words mean."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ufc_monai.errors import InputError

if TYPE_CHECKING:
    from ufc_monai.commands.options import RunOptions

__all__ = [
    "KEYS",
    "STUDY_KEYS",
    "VALUES",
    "add_keys",
    "add_options",
    "add_preset",
    "add_replace",
    "given",
    "overrides_of",
    "require_folder",
    "run_options",
    "value_of",
    "words",
]

KEYS = {
    "window": 'the Hounsfield units that become 0 and 1, e.g. "[-125,275]"',
    "labels": "names and ids of the structures, e.g. \"{'liver': 1, 'spleen': 2}\"",
    "background_labels": 'ids that become background, e.g. "[3,4]"',
    "n_clusters": "number of clusters instead of the elbow's",
    "clustering": "agglomerative, kmeans or dbscan (default: agglomerative)",
    "linkage": "of agglomerative clustering: ward, average or complete (default: ward)",
    "feature_scaling": "of the features that are clustered: raw, standardised, l2 or pca (default: raw)",
    "centred": "False: cluster the features without subtracting each patient's mean",
    "fold": "which quarter of the labelled patients is tested (default: 0)",
    "label_draw": "which of five nested orders grants the labels (default: 0)",
    "seed": "seed of every stage (default: 0)",
    "skip_bad": "True: go on without the volumes whose image or label is a bad file",
    "include_test_images": "True: train on images of imagesTs, or of dataset.json's list 'test', too",
    "threads": "PyTorch's threads; 1 on a machine that others use too",
    "device": "where to compute, e.g. cpu or cuda:0",
}
"""Keys of the bundles that ``run`` hands to every stage that has them."""
EXISTING = ("refuse", "keep", "overwrite")
"""What ``segment`` can do about masks that are there already; the first is the default."""
VALUES = ("ids", "channels")
"""What the masks of a label server can hold; the first is the default."""
STUDY_KEYS = ("window", "labels", "background_labels", "n_clusters", "skip_bad", "include_test_images", "threads")
"""Those that a study takes; it sets the others itself."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What ``check`` and ``run`` share, so that the one foretells the other."""
    parser.add_argument("--labelled", type=int, metavar="N", help="labelled volumes to train on (default: all)")
    add_preset(parser)
    parser.add_argument(
        "--method", metavar="NAME", help="another method for stage 2: simclr, moco, byol, glcl, pcl, ..."
    )
    parser.add_argument("--compare", action="store_true", help="also fine-tune from random weights")
    add_keys(parser, KEYS)


def add_preset(parser: argparse.ArgumentParser) -> None:
    """How large and how long everything is."""
    parser.add_argument(
        "--preset",
        choices=("auto", "cpu", "paper", "isic", "isic+cpu"),
        default="auto",
        help="cpu: small and quick; paper: the paper's recipe for CT, isic: for dermoscopy, both want a GPU; "
        "isic+cpu: dermoscopy, small; auto: cpu without a GPU (default)",
    )


def add_keys(parser: argparse.ArgumentParser, keys: Iterable[str]) -> None:
    """Some of ``KEYS``, and what sets any other key of a bundle."""
    for key in keys:
        parser.add_argument(f"--{key}", type=value_of, help=KEYS[key])
    parser.add_argument(
        "--set",
        type=override,
        action="append",
        default=[],
        metavar="BUNDLE.KEY=VALUE",
        help="a key of one bundle's training, e.g. ufc_cluster_contrastive.epochs=50; may be repeated",
    )
    parser.add_argument(
        "--bundles",
        type=Path,
        help="folder of the three bundles (default: bundles here, or those that came with the package)",
    )


def add_replace(parser: argparse.ArgumentParser) -> None:
    """What lets a run take the place of another."""
    parser.add_argument(
        "--replace",
        type=value_of,
        choices=(True, False),
        help="True: repeat in the folder what has run there with other options (default: refuse)",
    )


def run_options(chosen: argparse.Namespace) -> RunOptions:
    """The options of a run, or of what foretells or prepares one.

    Raises:
        InputError: if there is no such data set, or the bundles are not found.
    """
    require_folder(chosen)
    from ufc_monai.commands.options import RunOptions, find_bundles

    return RunOptions(
        dataset_dir=chosen.dataset_dir,
        folder=chosen.folder,
        bundles=find_bundles(chosen.bundles),
        preset=chosen.preset,
        **given(chosen, ["labelled", "method", "compare", "tracking", "replace"]),
        keys=given(chosen, KEYS),
        overrides=overrides_of(chosen),
    )


def require_folder(chosen: argparse.Namespace) -> None:
    """Check that the data set's folder exists."""
    if not chosen.dataset_dir.is_dir():  # said before PyTorch is imported
        raise InputError(f"dataset_dir: there is no folder {chosen.dataset_dir}. Name the folder of your volumes.")


def overrides_of(chosen: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What ``--set`` has set, by bundle."""
    overrides: dict[str, dict[str, Any]] = {}
    for bundle, key, value in chosen.set:
        overrides.setdefault(bundle, {})[key] = value
    return overrides


def given(chosen: argparse.Namespace, keys: Iterable[str]) -> dict[str, Any]:
    """Those options that were given."""
    return {key: getattr(chosen, key) for key in keys if getattr(chosen, key, None) is not None}


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def value_of(text: str) -> Any:
    """A number, list or mapping as one writes it in Python; anything else stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval raises
        return text


def override(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    bundle, point, key = name.partition(".")
    if not (equals and point and key):
        raise argparse.ArgumentTypeError(f"expected BUNDLE.KEY=VALUE, got {text!r}")
    return bundle, key, value_of(value)
