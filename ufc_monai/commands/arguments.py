"""The commands and all their options, as two tables."""

from __future__ import annotations

import argparse
import ast
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ufc_monai import __version__
from ufc_monai.base.errors import InputError, meant


class Option(NamedTuple):
    """An option, of one command or several.

    Attributes:
        name: with its dashes; a positional argument has none.
        kind: the type of its values, ``bool`` for a switch, or a tuple of choices.
        help: what it is for.
        commands: those that take it.
        default: as typed; ``None`` leaves it to the function, ``...`` makes the option required.
        more: further arguments of ``add_argument``.
    """

    name: str
    kind: Any
    help: str
    commands: str
    default: Any = None
    more: dict[str, Any] | None = None


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def value_of(text: str) -> Any:
    """A number, list or mapping in Python's notation; anything else stays text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval raises
        return text


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them, in brackets or not."""
    try:
        return tuple(float(part) for part in text.strip("[]() ").split(","))
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"expected numbers such as 120,80,35, got {text!r}") from e


def override(text: str) -> tuple[str, str, Any]:
    """What ``--set`` sets: bundle, key and value."""
    name, equals, value = text.partition("=")
    bundle, point, key = name.partition(".")
    if not (equals and point and key):
        raise argparse.ArgumentTypeError(f"expected BUNDLE.KEY=VALUE, got {text!r}")
    return bundle, key, value_of(value)


RUN, STUDY = "planning.options:RunOptions", "study.options:StudyOptions"
COMMANDS = {
    "check": ("look at a data set before any training", "commands.check:run_check", RUN),
    "run": ("run all stages on a data set and write a report", "commands.run:run_all", RUN),
    "study": ("compare methods at several label budgets, with their statistics", "study.command:run_study", STUDY),
    "next": ("name the volumes that are best labelled next", "commands.next:next_volumes", RUN),
    "segment": ("write masks of new scans", "commands.segment:segment", None),
    "agreement": ("compare a run's clusters with labels of an observer", "commands.agreement:agreement", None),
    "sample": ("new slices from clusters, or between two slices", "commands.sample:sample", None),
    "match": ("find in other scans the place most like a marked one", "commands.match:match", None),
    "label": ("put a run's bundles into MONAI Label's monaibundle app", "commands.label:put_into_app", None),
    "cut": ("cut the saved clusters' tree at another number of clusters", "commands.cut:cut", None),
    "report": ("rewrite the report of a run's or a study's folder", "commands.report:report", None),
    "package": ("pack the bundles for others, with weights and model card", "commands.package:package", None),
    "demo": ("run everything on synthetic patients", "commands.demo:run_demo", None),
    "phantom": ("make synthetic patients or pictures to try things on", "commands.phantom:phantom", None),
}
"""What each command does, its function, and the class of the function's argument ``options``, if it has one: options of
the command that are fields of the class go there, the others are arguments of the function."""

RUNS, PLANS = "check run next", "check run next study"
PRESETS = ("auto", "gpu", "cpu", "paper", "paper+cpu", "isic", "isic+cpu", "isic+paper", "isic+paper+cpu")
ARMS = "random, vae_init, ufc_random_clusters, ufc_not_centred, methods of stage 2; each alone or +self_training"
RECIPES = "gpu; cpu: quick; paper: its fine-tuning; isic: for dermoscopy; with +cpu quick; auto: gpu or cpu"
OBSERVED = "a CSV image,label; or made of masks: dominant, area or level"
SET = "a key of one bundle's training, e.g. ufc_cluster_contrastive.epochs=50; may be repeated"
BUNDLES = "folder of the three bundles (default: bundles here, or those that came with the package)"

OPTIONS = (
    Option("dataset_dir", Path, "folder of the volumes, or MedMNIST's npz", "check", more={"metavar": "DIR"}),
    Option("--dataset_dir", Path, "folder of the volumes, or MedMNIST's npz", "run study", ...),
    Option("--dataset_dir", Path, "folder of the volumes (default: that of the run in --folder)", "next"),
    Option("--dataset_dir", Path, "folder of its volumes (default: as the run was started)", "agreement"),
    Option("--folder", Path, "where everything goes", "run", "run"),
    Option("--folder", Path, "where everything goes", "study", "study"),
    Option("--folder", Path, "where everything goes", "demo", "demo"),
    Option("--folder", Path, "of the run", "next label cut", "run"),
    Option("--folder", Path, "of the run or study", "report", "run"),
    Option("--weights", Path, "folder of a run, of the segmentation bundle, or of weights", "segment", ...),
    Option("--weights", Path, "folder of a run", "agreement sample match", ...),
    Option("--image", Path, "the scan with the marked point", "match", ..., {"metavar": "A"}),
    Option("--point", numbers, "voxel indices x,y,z of its file, of a picture x,y", "match", ..., {"metavar": "X,Y,Z"}),
    Option("--mm", bool, "the point is in RAS millimetres", "match"),
    Option("--output", Path, "folder to write to", "match", "match"),
    Option("others", Path, "scans to look in", "match", more={"metavar": "B", "nargs": "+"}),
    Option("--labels", str, OBSERVED, "agreement", ...),
    Option("--beside", words, "folders of further runs with the same split and fold", "agreement"),
    Option("--steps", int, "of fine-tuning the supervised baselines (default: 300)", "agreement"),
    Option("--clusters", words, "numbers of clusters; all: of all slices; prior: of a VAE", "sample", "all"),
    Option("--n", int, "slices of each", "sample", "64"),
    Option("--between", str, "two slices, IMAGE#INDEX each", "sample", more={"nargs": 2, "metavar": ("A", "B")}),
    Option("--seed", int, "of the draws", "sample", "0"),
    Option("target", Path, "folder to write to", "sample", more={"metavar": "OUT", "nargs": "?", "default": None}),
    Option("--k", int, "number of clusters", "cut", ...),
    Option("--budget", int, "how many volumes to name", "next", ...),
    Option("--strategy", ("coverage", "quality", "random"), "by what they are chosen", "next", "coverage"),
    Option("--methods", words, ARMS, "study", "random,simclr,ufc"),
    Option("--budgets", words, "labelled volumes, or shares: 5%%", "study", "1,2,4"),
    Option("--folds", int, "how many of the four (default: all)", "study"),
    Option("--seeds", int, "seeds of pretraining and fine-tuning", "study", "3"),
    Option("--draws", int, "label draws for each seed (default: seed s has draw s)", "study"),
    Option("--init_seeds", int, "fine-tunings with the same labels, for the noise", "study", "3"),
    Option("--clusterings", words, "e.g. agglomerative:3,agglomerative:20,kmeans:20", "study"),
    Option("--selection", words, "volumes to label: random, coverage (of clusters), or both", "study", "random"),
    Option("--labelled", int, "labelled volumes to train on (default: all)", "check run"),
    Option("--preset", PRESETS, RECIPES, PLANS, "auto"),
    Option("--features", str, "another network for stage 1: contrastive_ae, contrastive_vae, ...", PLANS),
    Option("--method", str, "another method for stage 2: simclr, moco, glcl, local_discrimination, ...", "check run"),
    Option("--unlabelled", ("none", "self_training"), "how stage 3 learns from unlabelled scans", "check run", "none"),
    Option("--compare", bool, "also fine-tune the controls: random weights, labelled scans alone", "check run"),
    Option("--tracking", ("mlflow",), "also record every stage in the folder's mlruns.db", "run"),
    Option("--replace", (True, False), "True: repeat stages that ran with other options", "run next", "False"),
    Option("--yes", bool, "begin even what will take more than a day", "run next"),
    Option("--jobs", int, "runs at once", "study", "1"),
    Option("--devices", words, "which the jobs are spread over: cuda:0,cuda:1", "study"),
    Option("--scheduler", str, "address of a Dask cluster that does the runs: tcp://HOST:8786", "study"),
    Option("--dry_run", bool, "show what is to be done and how long it will take", "study"),
    Option("--window", value_of, 'the Hounsfield units that become 0 and 1, e.g. "[-125,275]"', PLANS),
    Option("--labels", value_of, "names and ids of the structures, e.g. \"{'liver': 1, 'spleen': 2}\"", PLANS),
    Option("--background_labels", value_of, 'ids that become background, e.g. "[3,4]"', PLANS),
    Option("--n_clusters", value_of, "number of clusters instead of the elbow's", PLANS),
    Option("--skip_bad", value_of, "True: go on without the volumes whose image or label is a bad file", PLANS),
    Option("--include_test_images", value_of, "True: also train on imagesTs, or on dataset.json's list 'test'", PLANS),
    Option(
        "--threads",
        value_of,
        "PyTorch's threads; 1 on a machine that others use too",
        f"{PLANS} segment agreement sample match",
    ),
    Option("--device", value_of, "where to compute, e.g. cpu or cuda:0", f"{RUNS} segment agreement sample match"),
    Option("--clustering", value_of, "agglomerative, kmeans or dbscan (default: agglomerative)", RUNS),
    Option("--linkage", value_of, "of agglomerative clustering: ward, average or complete (default: ward)", RUNS),
    Option("--feature_scaling", value_of, "of what is clustered: raw, standardised, l2 or pca (default: raw)", RUNS),
    Option("--centred", value_of, "False: cluster the features without subtracting each patient's mean", RUNS),
    Option("--fold", value_of, "which quarter of the labelled patients is tested (default: 0)", RUNS),
    Option("--label_draw", value_of, "which of five nested orders grants the labels (default: 0)", RUNS),
    Option("--seed", value_of, "seed of every stage (default: 0)", RUNS),
    Option("--set", override, SET, f"{PLANS} demo", more={"action": "append", "metavar": "BUNDLE.KEY=VALUE"}),
    Option("--bundles", Path, BUNDLES, f"{PLANS} demo package"),
    Option("--write", Path, "write the split (split.json)", "check", more={"nargs": "?", "const": Path("split.json")}),
    Option("--existing", ("refuse", "keep", "overwrite"), "masks that are there already", "segment", "refuse"),
    Option(
        "--arm",
        ("pretrained", "random", "labelled_alone"),
        "of a run that compared (default: the best validated)",
        "segment",
    ),
    Option("--format", ("same", "dicom_seg"), "of the masks: that of the scan, or DICOM SEG", "segment", "same"),
    Option("--codes", Path, "table structure,code,scheme,meaning for DICOM SEG", "segment"),
    Option("--uncertainty", value_of, "True: also write where views of a scan disagree, in percent", "segment"),
    Option("source", Path, "a scan, a folder of scans, or one with a DICOM series", "segment", more={"metavar": "IN"}),
    Option("target", Path, "folder of the masks; for one scan also a file", "segment", more={"metavar": "OUT"}),
    Option("app", Path, "folder of the app, e.g. apps/monaibundle", "label", more={"metavar": "APP"}),
    Option("--values", ("ids", "channels"), "what masks hold: the data set's ids, or 1 to n by class", "label", "ids"),
    Option("--studies", Path, "folder of the server's scans, for first drafts of their masks", "label"),
    Option("--allow_stale", (True, False), "even if the features have changed", "cut", "False"),
    Option("--output", Path, "the preview picture", "check", "check_preview.png"),
    Option("--output", Path, "the HTML file (default: report.html in the run's folder)", "report"),
    Option("--output", Path, "folder to write to", "package", "dist"),
    Option("--version", str, "of the bundles (default: that of their metadata.json)", "package"),
    Option("--change", str, "what is new in this version, for the changelog", "package"),
    Option("target", Path, "folder to write to", "phantom", more={"metavar": "OUT"}),
    Option("--patients", int, "synthetic patients", "demo", "12"),
    Option("--patients", int, "how many", "phantom", "9"),
    Option("--labelled", int, "how many have labels (default: all)", "phantom"),
    Option("--kind", ("heart", "skin"), "heart CT or pictures of the skin", "phantom", "heart"),
)
KEYS = [option.name.removeprefix("--") for option in OPTIONS if option.kind is value_of]
"""Keys of the bundles that a command hands to every stage that has them; a study sets the others itself."""
METAVARS = {int: "N", Path: "PATH", words: "A,B", value_of: "VALUE"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every error is said, without the usage of all options before it."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        if "expected one argument" in message:
            message += '; numbers that begin with a minus stand in brackets, as in --window "[-150,250]"'
        self.exit(2, f"error: {message}\n{self.prog} --help lists all options\n")


def parse(arguments: Sequence[str] | None) -> tuple[str, dict[str, Any]]:
    """The name of the command, and its options by name: those given, and those with a default."""
    if list(sys.argv[1:] if arguments is None else arguments)[:1] == ["select"]:
        sys.exit(
            "error: select is called next now: python -m ufc_monai next --folder RUN --budget N --strategy coverage"
        )
    parser = _Parser(prog="python -m ufc_monai", description="Tools around the ufc_monai bundles.")
    parser.add_argument("--version", action="version", version=f"ufc_monai {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for name, (text, _, _) in COMMANDS.items():
        of_command = commands.add_parser(name, help=text, argument_default=argparse.SUPPRESS)
        for option in OPTIONS:
            if name in option.commands.split():
                _add(of_command, option)
    chosen, strange = parser.parse_known_args(arguments)
    if strange:
        known = [option.name.removeprefix("--") for option in OPTIONS if chosen.command in option.commands.split()]
        hint = meant(strange[0].removeprefix("--").partition("=")[0], known, "--") or ""
        commands.choices[chosen.command].error(f"{strange[0]} is not understood. {hint}".rstrip())
    given = vars(chosen)
    return given.pop("command"), given


def run_command(command: str, given: dict[str, Any]) -> Any:
    """Call the function of a command; it is imported now: PyTorch and MONAI take seconds, and ``cut`` needs neither.

    Args:
        command: its name.
        given: its options; those of ``KEYS`` become the argument ``keys``, and ``--set`` becomes ``overrides``.

    Raises:
        InputError: if the data set's folder or the bundles are missing; and all errors of the command.
    """
    if (folder := given.get("dataset_dir", Path())).suffix == ".npz" and folder.is_file():
        folder = given["dataset_dir"] = pkgutil.resolve_name("ufc_monai.data.medmnist:unpacked")(folder)
    if not folder.is_dir():  # said before PyTorch is imported
        raise InputError(f"dataset_dir: there is no folder {folder}. Name the folder of your volumes.")
    _, where, kind = COMMANDS[command]
    keyed = {
        option.name.removeprefix("--")
        for option in OPTIONS
        if option.kind is value_of and command in option.commands.split()
    }
    if keys := {key: given.pop(key) for key in [*given] if key in keyed}:
        given["keys"] = keys
    for bundle, key, value in given.pop("set", ()):
        given.setdefault("overrides", {}).setdefault(bundle, {})[key] = value
    if kind:
        options = pkgutil.resolve_name(f"ufc_monai.{kind}")
        found = pkgutil.resolve_name("ufc_monai.planning.options:find_bundles")(given.pop("bundles", None))
        of_run = {"folder": Path("run"), "bundles": found}
        of_run |= {field.name: given.pop(field.name) for field in fields(options) if field.name in given}
        if "dataset_dir" not in of_run:
            of_run["dataset_dir"] = pkgutil.resolve_name("ufc_monai.base.rounds:data_set_of_run")(of_run["folder"])
        given["options"] = options(**of_run)
    return pkgutil.resolve_name(f"ufc_monai.{where}")(**given)


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    name, kind, text, _, default, more = option
    how: dict[str, Any] = {"help": text}
    if default is ...:
        how["required"] = True
    elif default is not None:
        how |= {"default": default, "help": f"{text} (default: %(default)s)"}
    if kind is bool:
        how["action"] = "store_true"
    elif isinstance(kind, tuple):
        how |= {"type": value_of, "choices": kind}
    else:
        how |= {"type": kind, "metavar": METAVARS.get(kind)}
    parser.add_argument(name, **how | (more or {}))
