"""The table of keys and options that are wrong: where they are given, and what the message says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_files import LABELS, content, data_set
from conftest import NAMES, ROOT

from ufc_monai.base.errors import checked_bool
from ufc_monai.clustering.pipeline import ClusteringMethod
from ufc_monai.data.case import Case
from ufc_monai.data.label_names import find_labels
from ufc_monai.data.region import resolve_region
from ufc_monai.networks.vae import BetaVAE
from ufc_monai.planning.options import RunOptions
from ufc_monai.planning.plan import plan_stages
from ufc_monai.training.compute import check_device, resolve_precision
from ufc_monai.training.setup import check_overrides, check_settings
from ufc_monai.transforms.crop import BodyCrop
from ufc_monai.transforms.labels import RemapLabels
from ufc_monai.transforms.volume import LoadVolume

VAE, CONTRASTIVE, UNET = NAMES
BUNDLES = ROOT / "bundles"

SETTINGS: dict[str, tuple[str, Any, str]] = {
    "epochs below zero": ("epochs", -1, "a whole number of 0 or more, got -1"),
    "half an epoch": ("epochs", 0.5, "a whole number of 0 or more, got 0.5"),
    "epochs of letters": ("epochs", "ten", "a whole number of 0 or more, got 'ten'"),
    "epochs true": ("epochs", True, "a whole number of 0 or more, got True"),
    "a million threads": ("threads", 10**6, "a whole number of 1 to 1024, got 1000000"),
    "a million processes": ("num_workers", 10**6, "a whole number of 0 to 1024, got 1000000"),
    "empty batch": ("batch_size", 0, "a whole number of 1 or more, got 0"),
    "seed below zero": ("seed", -1, "a whole number of 0 to 4294967295"),
    "seed beyond NumPy's": ("seed", 2**32, "a whole number of 0 to 4294967295, got 4294967296"),
    "no such norm": ("norm", "foo", "'batch', 'instance' or another of MONAI's"),
    "norm of nothing": ("norm", None, "'batch', 'instance' or another of MONAI's"),
    "norm of other arguments": ("norm", ["batch", {"groups": 3}], "'batch', 'instance' or another of MONAI's"),
    "workers below zero": ("num_workers", -2, "a whole number of 0 to 1024"),
    "no thread": ("threads", 0, "a whole number of 1 to 1024, got 0"),
    "threads of letters": ("threads", "many", "a whole number of 1 to 1024"),
    "image_size too small": ("image_size", 8, "a whole number of 16 or more, got 8"),
    "image_size of a pair": ("image_size", [64, 64], "a whole number of 16 or more"),
    "learning rate NaN": ("learning_rate", math.nan, "a number of 0 or more, got nan"),
    "learning rate as MONAI hands over NaN": ("learning_rate", "nan", "a number of 0 or more, got 'nan'"),
    "learning rate infinite": ("learning_rate", math.inf, "a number of 0 or more, got inf"),
    "learning rate below zero": ("learning_rate", -0.1, "a number of 0 or more, got -0.1"),
    "temperature below zero": ("temperature", -0.1, "a number above 0, got -0.1"),
    "weight decay below zero": ("weight_decay", -1.0, "a number of 0 or more"),
    "beta NaN": ("beta", math.nan, "a number of 0 or more, got nan"),
    "window of letters": ("window", ["a", "b"], "two rising numbers"),
    "window of one": ("window", [400], "two rising numbers"),
    "window a number": ("window", 400, "two rising numbers"),
    "window reversed": ("window", [275, -125], "two rising numbers like [-125,275], got [275, -125]"),
    "window NaN": ("window", [0, math.nan], "two rising numbers"),
    "five widths": ("features", [4, 4, 8, 8, 16], "a list of six whole numbers above 0"),
    "no widths": ("vae_channels", [], "a list of whole numbers above 0"),
}
"""Keys of a training, by the function that every training calls first."""


def overrides(folder: Path, *words: str, bundle: str = VAE, **laid_over: Any) -> None:
    """Start a bundle with these words, ``laid_over`` being a configuration of the user's own."""
    own = folder / "mine.json"
    own.write_text(json.dumps(laid_over))
    files = [str(BUNDLES / bundle / "configs" / "train.json"), str(own)]
    check_overrides(["monai/bundle/__main__.py", "run", "--config_file", str(files), *words])


def args_file(folder: Path, **keys: Any) -> None:
    path = folder / "args.json"
    config = str(BUNDLES / VAE / "configs" / "train.json")
    path.write_text(json.dumps({"config_file": config, **keys}))
    check_overrides(["monai/bundle/__main__.py", "run", "--args_file", str(path)])


def edited_train(folder: Path) -> None:
    """A user's copy of train.json in which a key was misspelt."""
    text = (BUNDLES / VAE / "configs" / "train.json").read_text().replace('"epochs": 200', '"epohcs": 200')
    (folder / "train.json").write_text(text)
    check_overrides(["monai/bundle/__main__.py", "run", "--config_file", str(folder / "train.json")])


def plan(labelled: int = 8, *, asked: int | None = None, **keys: Any) -> None:
    """What ``run`` and ``check`` refuse before they read a volume."""
    cases = [Case(f"{i}.nii.gz", f"l{i}.nii.gz", str(i)) for i in range(labelled)]
    plan_stages(RunOptions(Path("data"), Path("run"), BUNDLES, preset="cpu", labelled=asked, keys=keys), cases)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing to train": (lambda _: check_settings({"epochs": 0, "min_steps": 0}), "epochs and min_steps are both 0"),
    "an id of no digits": (
        lambda d: find_labels(None, content(d / "dataset.json", '{"labels": {"liver": "²"}}').parent),
        "label 'liver' has '²' in the place of one id",
    ),
    "half a character in a structure's name": (
        lambda d: find_labels(None, content(d / "dataset.json", '{"labels": {"li\\ud800": 1}}').parent),
        "holds characters that are none. Rename it.",
    ),
    # misspelt
    "misspelt on the command line": (lambda d: overrides(d, "--epohcs", "3"), "--epohcs is no key of"),
    "misspelt with its value": (lambda d: overrides(d, "--epohcs=3"), "Did you mean --epochs?"),
    "misspelt in args_file": (lambda d: args_file(d, epohcs=3), "Did you mean --epochs?"),
    "misspelt in a file laid over": (lambda d: overrides(d, epohcs=3), "reads the key epohcs. Did you mean epochs?"),
    "misspelt part of a section": (
        lambda d: overrides(d, bundle=VAE, **{"trian::trainer::max_epochs": 3}),
        "nothing reads the key trian. Did you mean train?",
    ),
    "renamed, on the command line": (
        lambda d: overrides(d, "--contrast", "simclr", bundle=CONTRASTIVE),
        "It is called --loss_preset now.",
    ),
    "renamed, in a file laid over": (
        lambda d: overrides(d, bundle=CONTRASTIVE, contrast="simclr"),
        "nothing reads the key contrast. It is called loss_preset now.",
    ),
    "misspelt in train.json": (edited_train, "nothing reads the key epohcs. Did you mean epochs?"),
    # stages
    "neither true nor false": (lambda _: checked_bool("yes", "skip_bad"), "skip_bad must be True or False, got 'yes'"),
    "no such device": (lambda _: check_device("gpu"), "device: gpu cannot be used here"),
    "no such precision": (lambda _: resolve_precision("fp8", "cpu"), "precision must be one of auto, fp32, bf16"),
    "image_size not divisible": (
        lambda _: BetaVAE(100, 8, [4, 8, 16]),
        "image_size must be a multiple of 8 for 3 channels, got 100: choose --image_size 96",
    ),
    "image_size too small for a UNet": (
        lambda _: check_settings({"image_size": 16, "features": [4] * 6}),
        "image_size must be 32 or more for a UNet",
    ),
    "two channels": (lambda _: LoadVolume(2), "channels must be 1, or 3 for colour pictures"),
    "region of another word": (lambda _: resolve_region("heart", []), "region must be null, 4 fractions"),
    "region reversed": (lambda _: BodyCrop(region=[0.9, 0.1, 0.0, 1.0]), "region must be null or 4 fractions"),
    "labels are a list": (lambda d: find_labels([1, 2], data_set(d)), "labels must map names to ids"),  # type: ignore[arg-type]
    "labels are a word": (lambda d: find_labels("liver", data_set(d)), "labels must map names"),  # type: ignore[arg-type]
    "labels without names": (lambda d: find_labels({1: 1}, data_set(d)), "labels must map names"),  # type: ignore[dict-item]
    "label true": (lambda d: find_labels({"liver": True}, data_set(d)), "labels must map names"),
    "background as a label": (
        lambda d: find_labels({"air": 0}, data_set(d)),
        "labels must map names to ids of 1 to 65535",
    ),
    "label beyond any mask": (lambda d: find_labels({"liver": 10**13}, data_set(d)), "ids of 1 to 65535"),
    "two labels of one id": (lambda _: RemapLabels({"a": 1, "b": 1}), "each id once"),
    "a label that is ignored": (lambda _: RemapLabels(LABELS, [1]), "each id once and none of 0, background_labels"),
    "ignored ids are a number": (lambda _: RemapLabels(LABELS, 3), "background_labels must be a list"),  # type: ignore[arg-type]
    "ignored ids of letters": (lambda _: RemapLabels(LABELS, ["x"]), "background_labels must be a list"),  # type: ignore[list-item]
    "one cluster": (lambda _: ClusteringMethod(n_clusters=1), "n_clusters"),
    "no such clustering": (lambda _: ClusteringMethod(clustering="ward"), "clustering"),
    # run and check
    "run: budget beyond what there is": (lambda _: plan(asked=99), "--labelled must be 1 to 4"),
    "run: fold for too few patients": (lambda _: plan(3, fold=1), "--fold must be 0 to 0 for this data set, got 1"),
    "run: window of letters": (lambda _: plan(window="wide"), "--window must be two rising numbers"),
    "run: seed below zero": (lambda _: plan(seed=-1), "--seed must be a whole number of 0 to 4294967295"),
    "run: seed beyond NumPy's": (lambda _: plan(seed=2**32), "--seed must be a whole number of 0 to 4294967295"),
    "run: no such linkage": (lambda _: plan(linkage="foo"), "--linkage must be one of ward, average, complete"),
    "run: no such clustering": (lambda _: plan(clustering="foo"), "--clustering must be one of agglomerative"),
    "run: no such scaling": (lambda _: plan(feature_scaling="foo"), "--feature_scaling must be one of raw"),
    "run: neither centred nor not": (lambda _: plan(centred="maybe"), "--centred must be True or False, got 'maybe'"),
    "run: one cluster": (lambda _: plan(n_clusters=1), "--n_clusters must be 2 or more"),
    "run: clusters of letters": (lambda _: plan(n_clusters="many"), "--n_clusters must be 2 or more"),
    "run: clusters of DBSCAN": (lambda _: plan(clustering="dbscan", n_clusters=3), "--n_clusters: dbscan finds"),
    "run: neither true nor false": (lambda _: plan(skip_bad="maybe"), "--skip_bad must be True or False"),
}
"""Everything else."""
