"""What ``run`` is asked to do, and whether it can be."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from ufc_monai.base.bundles import BUNDLES, CONTRASTIVE, UNET, VAE, features, laid_over, methods
from ufc_monai.base.errors import InputError, checked_bool, meant, unwrapped
from ufc_monai.base.files import read_json
from ufc_monai.base.merged import is_plain
from ufc_monai.data.case import Case
from ufc_monai.data.datalist import find_cases
from ufc_monai.data.problems import without_bad
from ufc_monai.data.split import Split, make_split
from ufc_monai.data.split_file import open_split
from ufc_monai.planning.stages import config_path
from ufc_monai.training.compute import check_device
from ufc_monai.training.setup import check_settings, top_of

RESERVED = {
    **dict.fromkeys(("bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "resume"), "is set by the run itself"),
    **dict.fromkeys(("fold", "split_path", "split_seed"), "is the same in all stages: use --fold and --label_draw"),
}
"""Keys that no bundle may have to itself, and why."""


@dataclass(frozen=True)
class ChainOptions:
    """What the stages of a run, or of each run of a study, have in common.

    Attributes:
        dataset_dir: folder of the data set.
        folder: of the run or study; it becomes self-contained: bundles, weights, results, report.
        bundles: where the three bundles are copied from.
        labelled: the label budget in volumes; ``None`` is all that training may use.
        preset: configurations laid over the train.json of each bundle that has them: ``"cpu"``, ``"paper"`` or
            ``"isic"``, or two with ``+`` between them; ``"gpu"`` is train.json as it is, ``"auto"`` cpu without a GPU.
        features: a configuration of stage 1 that is laid over its training before the presets, such as
            ``"contrastive_ae"``; ``None`` is the paper's.
        method: a configuration of stage 2 that is laid over its training, such as ``"moco"``; ``None`` is the paper's.
        unlabelled: a configuration of stage 3 that is laid over its training: ``"self_training"``; or ``"none"``.
        keys: keys that are handed to every configuration that has them.
        overrides: keys of one bundle's training, by the bundle's name.
        split: the content of the split that there is already; ``None`` if it is still to be drawn.
    """

    dataset_dir: Path
    folder: Path
    bundles: Path
    labelled: int | None = None
    preset: str = "auto"
    features: str | None = None
    method: str | None = None
    unlabelled: str = "none"
    keys: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    split: Mapping[str, Any] | None = None

    def split_of(self, cases: Sequence[Case]) -> Mapping[str, Any]:
        """The content of the split of all volumes."""
        return self.split or make_split(cases, seed=0)

    @property
    def fold(self) -> int:
        """Which quarter of the labelled patients is tested."""
        return int(self.keys.get("fold", 0))

    @property
    def skip_bad(self) -> bool:
        """Whether to go on without the volumes whose files are bad."""
        return checked_bool(self.keys.get("skip_bad", False), "--skip_bad")

    @property
    def include_test_images(self) -> bool:
        """Whether test images train, too."""
        return checked_bool(self.keys.get("include_test_images", False), "--include_test_images")

    @property
    def label_draw(self) -> int:
        """Which order grants the labels."""
        return int(self.keys.get("label_draw", 0))


@dataclass(frozen=True)
class RunOptions(ChainOptions):
    """What a run does.

    Attributes:
        compare: also fine-tune from random weights, with the same labels, steps and seed.
        estimate: say beforehand how long it will take.
        tracking: ``"mlflow"`` also records every stage, and the report, in ``mlruns.db`` of the folder.
        replace: repeat stages that have run with other options, in their place.
        yes: begin even what will take more than a day.
    """

    compare: bool = False
    estimate: bool = True
    tracking: str | None = None
    replace: bool = False
    yes: bool = False


def find_bundles(named: Path | None = None) -> Path:
    """The folder of the three bundles: the one named, or :func:`default_bundles`.

    Raises:
        InputError: if a bundle is missing there.
    """
    found = default_bundles() if named is None else named
    if found is None or not _holds_bundles(found):
        raise InputError(
            f"--bundles: there is no bundle {(named or Path('bundles')) / VAE}. Name the folder 'bundles' of the "
            "repository."
        )
    return found


def default_bundles() -> Path | None:
    """The folder that is taken where none is named: ``bundles`` here, or what came with the package."""
    package = Path(__file__).parents[1]  # of a clone, or installed
    return next(filter(_holds_bundles, (Path("bundles"), package.parent / "bundles", package / "bundled")), None)


def usable_cases(options: ChainOptions) -> list[Case]:
    """The volumes to train and test on; with ``skip_bad``, those whose files are good. The log names the others.

    Raises:
        InputError: if none is left.
    """
    cases = find_cases(options.dataset_dir, options.include_test_images)
    return without_bad(cases, options.dataset_dir)[0] if options.skip_bad else cases


def open_split_of(options: ChainOptions, path: Path) -> Split:
    """The split at ``path``, drawn with these options if it does not exist; errors as of ``open_split``."""
    test = options.include_test_images
    return open_split(path, options.dataset_dir, skip_bad=options.skip_bad, include_test_images=test)


def check_options(options: ChainOptions, arms: Collection[str] = ()) -> None:
    """Refuse all that a stage would refuse when it starts, as far as it depends on no data.

    ``check``, ``run``, ``next`` and ``study`` ask it before they read a volume.

    Args:
        options: of the run or study.
        arms: names of a study's methods; keys of their configurations may be set, too.

    Raises:
        InputError: at an unknown key, bundle or method, an invalid value, a file that does not exist, or if TensorBoard
            is asked for and not installed.
    """
    _check_overrides(options, {part for arm in arms for part in arm.split("+")})
    _check_method(options)
    _check_values(options)
    if any(checked_bool(own.get("tensorboard", False), "tensorboard") for own in options.overrides.values()):
        check_installed("tensorboard")


def check_installed(package: str) -> None:
    """Refuse to go on without a package that tracks a training.

    Raises:
        InputError: if it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f'{package} is not installed. Install it, in the clone: pip install -e ".[tracking]".')


def training_configs(options: ChainOptions, bundle: str) -> list[str]:
    """The configurations that a bundle is trained with, laid over each other.

    Several presets, methods or fine-tunings stand with ``+`` between them. A bundle goes by those presets that it has.
    """
    configs, chosen = options.bundles / bundle / "configs", preset_of(options).split("+")
    own = {CONTRASTIVE: options.method, UNET: options.unlabelled}.get(bundle) or "none"
    laid = [name for name in chosen if (configs / f"{name}.json").is_file()]
    first = laid_over(options.features) if bundle == VAE and options.features else []
    return ["train", *first, *laid, *([] if own == "none" else laid_over(own))]


def cluster_configs(options: ChainOptions) -> list[str]:
    """The configurations that stage 1 makes features and clusters with: those of its prototypes, if it trains any.

    An option that asks for other clusters has them made as of any features.
    """
    prototypes = "prototypes" in keys_of(options.bundles / VAE, training_configs(options, VAE))
    asked = {"clustering", "linkage", "feature_scaling", "centred"} & options.keys.keys()
    return ["inference", "prototypes"] if prototypes and not asked else ["inference"]


def preset_of(options: ChainOptions) -> str:
    """The preset; where it is ``"auto"``, the one for this machine."""
    automatic = "gpu" if torch.cuda.is_available() else "cpu"
    return automatic if options.preset == "auto" else options.preset


def keys_of(bundle: Path, configs: Iterable[str]) -> set[str]:
    """The top-level keys of those of some configurations that a bundle has."""
    files = (bundle / "configs" / f"{name}.json" for name in configs)
    return {top_of(key) for file in files if file.is_file() for key in read_json(file, "--bundles")}


def open_config(options: ChainOptions, bundle: str, configs: Sequence[str] = ()) -> ConfigParser:
    """The configuration that a run starts a bundle with.

    Args:
        options: of the run.
        bundle: its name.
        configs: names of its configurations, the later laid over the earlier; by default those of its training.
    """
    parser = ConfigParser()
    names = configs or training_configs(options, bundle)
    parser.read_config([str(options.bundles / bundle / "configs" / f"{name}.json") for name in names])
    changes = {key: value for key, value in options.keys.items() if key in parser}
    changes |= {} if configs else options.overrides.get(bundle, {})
    for key, value in {**changes, "dataset_dir": config_path(options.dataset_dir, "--dataset_dir")}.items():
        parser[key] = value
    return parser


def stage_2_batch(options: ChainOptions) -> dict[str, int]:
    """The key that tells stage 1's clustering what stage 2's batches hold, where it would take another number.

    The elbow's number of clusters is capped so that an anchor expects enough positives in a batch.
    """
    size = open_config(options, CONTRASTIVE).get_parsed_content("batch_size")
    return {} if size == open_config(options, VAE, ["inference"])["batch_size"] else {"batch_size": size}


def is_setting(config: Mapping[str, Any], key: str) -> bool:
    """Whether a configuration leaves a key to the user, instead of reading it from network.json."""
    return key in config and "network_file" not in str(config[key])


def _holds_bundles(folder: Path) -> bool:
    return all((folder / name / "configs" / "train.json").is_file() for name in BUNDLES)


def _check_overrides(options: ChainOptions, more: Collection[str]) -> None:
    for bundle, settings in options.overrides.items():
        if bundle not in BUNDLES:
            raise InputError(f"--set: unknown bundle {bundle}. Expected one of {', '.join(BUNDLES)}.")
        known = keys_of(options.bundles / bundle, [*training_configs(options, bundle), *more])
        for key, value in settings.items():
            if key in RESERVED:
                raise InputError(f"--set: {key} of {bundle} {RESERVED[key]}. Leave it out.")
            if top_of(key) not in known:
                hint = meant(key, known) or "Its docs/README.md lists them."
                raise InputError(f"--set: {key} is no key of {bundle}. {hint}")
            if key.endswith("_path") and is_plain(value) and str(value).lower() not in ("none", "null"):
                _check_file(f"--set {bundle}.{key}", str(value), options.folder)


def _check_file(key: str, value: str, folder: Path) -> None:
    """Refuse a file that does not exist, unless stages of the run make it, or it is named as a downloaded bundle."""
    path = folder / value
    if not path.is_file() and not os.path.relpath(path, folder).startswith(BUNDLES):
        raise InputError(f"{key}: there is no file {path}. Name one as an absolute path, or none.")


def _check_method(options: ChainOptions) -> None:
    known = methods(options.bundles)
    for name in options.method.split("+") if options.method else ():
        _check_named("--method: unknown method", name, known, CONTRASTIVE)
    if options.features:
        _check_named("--features: unknown features", options.features, features(options.bundles), VAE)


def _check_named(what: str, name: str, known: Collection[str], bundle: str) -> None:
    if name not in known:
        hint = meant(name, known) or f"Expected one of {', '.join(known)}."
        raise InputError(f"{what} {name}, no {name}.json in {bundle}/configs. {hint}")


def _check_values(options: ChainOptions) -> None:
    """Refuse at once what a stage would refuse when it starts."""
    config_path(options.dataset_dir, "--dataset_dir")
    with unwrapped("--"):
        check_settings(options.keys)
        for key in ("skip_bad", "include_test_images"):
            checked_bool(options.keys.get(key, False), key)
        if "device" in options.keys:
            check_device(options.keys["device"])
        open_config(options, VAE, ["inference"]).get_parsed_content("method")
    for bundle in BUNDLES:
        with unwrapped(f"{bundle}: "):
            settings = open_config(options, bundle).get()
            check_settings({key: value for key, value in settings.items() if is_plain(value)})
