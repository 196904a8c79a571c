"""``python -m ufc_monai``: what surrounds the bundles."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ufc_monai import __version__
from ufc_monai.bundles import RENAMED
from ufc_monai.commands.arguments import (
    EXISTING,
    KEYS,
    STUDY_KEYS,
    VALUES,
    add_keys,
    add_options,
    add_preset,
    add_replace,
    given,
    overrides_of,
    require_folder,
    run_options,
    value_of,
    words,
)
from ufc_monai.errors import InputError, last_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is shown as one line, an :class:`InputError` as its message.

    ``UFC_TRACEBACK=1`` in the environment raises it instead.

    Returns:
        The exit code.
    """
    chosen, strange = _parser().parse_known_args(arguments)
    if strange:
        if new := RENAMED.get(strange[0].removeprefix("--").partition("=")[0]):
            chosen.parser.error(f"--{new} is what {strange[0]} is called now")
        near = difflib.get_close_matches(strange[0], [f"--{name}" for name in vars(chosen)], n=1)
        chosen.parser.error(f"{strange[0]} is not understood" + (f"; did you mean {near[0]}?" if near else ""))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("ufc_monai").setLevel(logging.INFO)
    try:
        return int(chosen.action(chosen) or 0)
    except Exception as e:
        if os.environ.get("UFC_TRACEBACK") == "1":
            raise
        sys.stderr.write(f"error: {last_words(e, getattr(chosen, 'folder', None))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped; the same command goes on from here\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ufc_monai", description="Tools around the ufc_monai bundles.")
    parser.add_argument("--version", action="version", version=f"ufc_monai {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_check(commands.add_parser("check", help="look at a data set before any training"))
    _add_run(commands.add_parser("run", help="run all stages on a data set and write a report"))
    _add_study(commands.add_parser("study", help="compare methods at several label budgets, with their statistics"))
    _add_select(commands.add_parser("select", help="name the volumes that are best labelled first"))
    _add_segment(commands.add_parser("segment", help="write masks of new scans"))
    _add_label(commands.add_parser("label", help="put a run's bundles into MONAI Label's monaibundle app"))
    _add_cut(commands.add_parser("cut", help="cut the saved clusters' tree at another number of clusters"))
    _add_report(commands.add_parser("report", help="write the report of a run's or study's folder anew"))
    _add_package(commands.add_parser("package", help="pack the bundles for others, with weights and model card"))
    _add_demo(commands.add_parser("demo", help="run everything on synthetic patients"))
    _add_phantom(commands.add_parser("phantom", help="make synthetic patients or pictures to try things on"))
    return parser


# Each command imports what it needs when it runs: PyTorch and MONAI take seconds, and "cut" needs neither.


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset_dir", type=Path, metavar="DIR", help="folder of the volumes")
    add_options(parser)
    parser.add_argument(
        "--write",
        type=Path,
        nargs="?",
        const=Path("split.json"),
        metavar="SPLIT",
        help="write the split (to split.json)",
    )
    parser.add_argument("--output", type=Path, default=Path("check_preview.png"), help="the preview picture")

    def action(chosen: argparse.Namespace) -> int:
        from ufc_monai.commands.check import run_check

        return run_check(run_options(chosen), output=chosen.output, write=chosen.write)

    parser.set_defaults(action=action, parser=parser, folder=Path("run"))


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR", help="folder of the volumes")
    parser.add_argument("--folder", type=Path, default=Path("run"), help="where everything goes (default: run)")
    parser.add_argument("--tracking", choices=("mlflow",), help="also record every stage in the folder's mlruns.db")
    add_replace(parser)
    add_options(parser)

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.run import run_all

        run_all(run_options(chosen))

    parser.set_defaults(action=action, parser=parser)


def _add_arms(parser: argparse.ArgumentParser) -> None:
    """What a study compares."""
    parser.add_argument(
        "--methods",
        type=words,
        default=("random", "simclr", "ufc"),
        help="random, vae_init, ufc_random_clusters, ufc_not_centred, methods of stage 2 (default: random,simclr,ufc)",
    )
    parser.add_argument(
        "--budgets", type=words, default=("1", "2", "4"), help="labelled volumes, or shares: 5%% (default: 1,2,4)"
    )
    parser.add_argument("--folds", type=int, help="how many of the four (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of pretraining and fine-tuning (default: 3)")
    parser.add_argument("--draws", type=int, help="label draws for each seed (default: seed s has draw s)")
    parser.add_argument(
        "--init_seeds", type=int, default=3, help="fine-tunings with the same labels, for the noise (default: 3)"
    )
    parser.add_argument("--clusterings", type=words, default=(), help="e.g. agglomerative:3,agglomerative:20,kmeans:20")
    parser.add_argument(
        "--selection",
        type=words,
        default=("random",),
        help="which volumes get labels: random, coverage (those that cover the clusters best), or both",
    )


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR", help="folder of the volumes")
    parser.add_argument("--folder", type=Path, default=Path("study"), help="where everything goes (default: study)")
    _add_arms(parser)
    add_preset(parser)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once (default: 1)")
    parser.add_argument("--devices", type=words, default=(), help="which the jobs are spread over: cuda:0,cuda:1")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that does the runs: tcp://HOST:8786")
    parser.add_argument("--budget_minutes", type=float, help="trim the plan: seeds first, then draws, folds, budgets")
    parser.add_argument("--dry_run", action="store_true", help="show what is to be done and how long it will take")
    add_keys(parser, STUDY_KEYS)

    def action(chosen: argparse.Namespace) -> None:
        require_folder(chosen)
        from ufc_monai.commands.options import find_bundles
        from ufc_monai.study import StudyOptions, run_study

        names = ("dataset_dir", "folder", "methods", "budgets", "folds", "seeds", "draws", "init_seeds", "clusterings")
        options = StudyOptions(
            **{name: getattr(chosen, name) for name in (*names, "selection", "preset")},
            bundles=find_bundles(chosen.bundles),
            keys=given(chosen, STUDY_KEYS),
            overrides=overrides_of(chosen),
        )
        how = {name: getattr(chosen, name) for name in ("jobs", "devices", "scheduler", "budget_minutes", "dry_run")}
        run_study(options, **how)

    parser.set_defaults(action=action, parser=parser)


def _add_select(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_dir", type=Path, required=True, metavar="DIR", help="folder of the volumes")
    parser.add_argument("--budget", type=int, required=True, metavar="N", help="how many volumes to name")
    parser.add_argument("--folder", type=Path, default=Path("run"), help="of the run (default: run)")
    add_preset(parser)
    add_replace(parser)
    add_keys(parser, KEYS)

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.select import select

        select(run_options(chosen), chosen.budget)

    parser.set_defaults(action=action, parser=parser)


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=Path, required=True, help="folder of a run, or of the segmentation bundle")
    for key in ("device", "threads"):
        parser.add_argument(f"--{key}", type=value_of, help=KEYS[key])
    parser.add_argument(
        "--existing", choices=EXISTING, default=EXISTING[0], help="masks that are there already (default: %(default)s)"
    )
    parser.add_argument("IN", type=Path, help="a scan, a folder of scans, or a folder with one DICOM series")
    parser.add_argument("OUT", type=Path, help="folder of the masks; for one scan also a file")

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.segment import segment

        segment(chosen.weights, chosen.IN, chosen.OUT, given(chosen, ["device", "threads"]), chosen.existing)

    parser.set_defaults(action=action, parser=parser)


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("run"), help="of the run (default: run)")
    parser.add_argument("APP", type=Path, help="folder of the app, e.g. apps/monaibundle")
    parser.add_argument(
        "--values",
        choices=VALUES,
        default=VALUES[0],
        help="what masks hold: the data set's ids (default), or 1 to n in the order of the classes",
    )

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.label import put_into_app

        put_into_app(chosen.folder, chosen.APP, chosen.values)

    parser.set_defaults(action=action, parser=parser)


def _add_cut(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=int, required=True, help="number of clusters")
    parser.add_argument("--folder", type=Path, default=Path("run"), help="of the run (default: run)")
    parser.add_argument(
        "--allow_stale", type=value_of, choices=(True, False), default=False, help="even if the features have changed"
    )

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.cut import cut

        cut(chosen.folder, chosen.k, allow_stale=chosen.allow_stale)

    parser.set_defaults(action=action, parser=parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("run"), help="of the run or study (default: run)")
    parser.add_argument("--output", type=Path, help="the HTML file (default: report.html in the run's folder)")

    def action(chosen: argparse.Namespace) -> None:
        if (chosen.folder / "study.json").is_file():
            if chosen.output:
                raise InputError("--output: a study's report is several files, which stay in its folder. Leave it out.")
            from ufc_monai.study import report_study

            return report_study(chosen.folder)
        from ufc_monai.report.run import write_report

        path = chosen.output or chosen.folder / "report.html"
        if path.is_dir():
            raise InputError(f"--output: {path} is a folder. Name the HTML file.")
        write_report(chosen.folder, path)
        logging.getLogger(__package__).info("report: %s", path)

    parser.set_defaults(action=action, parser=parser)


def _add_package(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundles", type=Path, help="folder of the three bundles, e.g. of a run (default: as for run)")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder to write to (default: dist)")
    parser.add_argument("--version", help="of the bundles (default: that of their metadata.json)")
    parser.add_argument("--change", help="what is new in this version, for the changelog")

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.options import find_bundles
        from ufc_monai.commands.package import package

        package(find_bundles(chosen.bundles), chosen.output, version=chosen.version, change=chosen.change)

    parser.set_defaults(action=action, parser=parser)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes (default: demo)")
    add_keys(parser, ())
    parser.add_argument("--patients", type=int, default=12, help="synthetic patients (default: 12)")

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.commands.demo import run_demo

        run_demo(chosen.folder, chosen.bundles, chosen.patients, overrides_of(chosen))

    parser.set_defaults(action=action, parser=parser)


def _add_phantom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("OUT", type=Path, help="folder to write to")
    parser.add_argument("--patients", type=int, default=9, help="how many (default: 9)")
    parser.add_argument("--labelled", type=int, help="how many have labels (default: all)")
    parser.add_argument(
        "--kind", choices=("heart", "skin"), default="heart", help="heart CT or pictures of the skin (default: heart)"
    )

    def action(chosen: argparse.Namespace) -> None:
        from ufc_monai.phantom import make_phantom, make_skin_phantom

        if chosen.patients < 1 or not 0 <= (chosen.labelled or 0) <= chosen.patients:
            asked = f"{chosen.patients} and {chosen.labelled}"
            raise InputError(f"--patients must be 1 or more, and --labelled at most as many; got {asked}.")
        if chosen.OUT.exists() and not chosen.OUT.is_dir():
            raise InputError(f"OUT: {chosen.OUT} is a file. Name a folder.")
        if chosen.kind == "skin":
            images = make_skin_phantom(chosen.OUT, pictures=chosen.patients, labelled=chosen.labelled)
        else:
            images = make_phantom(chosen.OUT, patients=chosen.patients, labelled=chosen.labelled)
        logging.getLogger(__package__).info("%d synthetic patients in %s", len(images), chosen.OUT)

    parser.set_defaults(action=action, parser=parser)


if __name__ == "__main__":
    sys.exit(main())
