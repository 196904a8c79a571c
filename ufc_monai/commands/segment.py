"""``segment``: masks for new scans, from a run's folder or a bundle and nothing else."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigWorkflow
from tqdm import tqdm

from ufc_monai.artifacts.network_file import read_record
from ufc_monai.artifacts.served import check_mask_values
from ufc_monai.artifacts.transfer import load_weights, read_network
from ufc_monai.base.bundles import UNET
from ufc_monai.base.chain import ALONE_FINE_TUNING, FINE_TUNING, RANDOM_FINE_TUNING, Stage, record_of, standing_record
from ufc_monai.base.errors import InputError, find_input_error, last_words, unwrapped
from ufc_monai.base.formats import stem_of, suffix_of
from ufc_monai.base.rounds import newest_round
from ufc_monai.data.datalist import account, image_items
from ufc_monai.planning.stages import config_path
from ufc_monai.quality.known import Known
from ufc_monai.quality.table import join_quality
from ufc_monai.report.page import counted
from ufc_monai.report.quality import quality_text, read_quality
from ufc_monai.transforms.dicom_seg import Code, codes_for, write_dicom_seg
from ufc_monai.transforms.save import mask_paths
from ufc_monai.transforms.volume import LoadVolume

logger = logging.getLogger(__name__)
Series = tuple[Path, Mapping[str, int], Sequence[Code]]
"""The DICOM series, the ids and the codes of a mask that becomes a DICOM SEG."""


def segment(
    weights: Path,
    source: Path,
    target: Path,
    keys: Mapping[str, Any] | None = None,
    existing: str = "refuse",
    arm: str | None = None,
    format: str = "same",
    codes: Path | None = None,
) -> list[Path]:
    """Segment one scan or a folder of scans. Each mask is in its place as soon as it is complete.

    ``quality.csv`` beside the masks predicts the Dice of each structure; of masks that are kept its rows are, too.

    Args:
        weights: the folder of a run, whose newest round is taken, or of a round, or a segmentation bundle with weights;
            or a folder of weights alone somewhere below the folder of the bundles, such as that of a shape prior.
        source: a file, a folder with one DICOM series, or a folder of scans.
        target: for one scan the file to write, or a folder; for several a folder.
        keys: further keys of the bundle's inference.json.
        existing: what to do about masks that are there already: ``"refuse"``, ``"keep"`` or ``"overwrite"``.
        arm: of a run that compared, the weights of ``"pretrained"``, ``"random"`` or ``"labelled_alone"``; ``None``
            takes those that validated best.
        format: ``"same"`` as the scans; ``"dicom_seg"``, of DICOM series, for viewers and archives.
        codes: a table of codes for structures whose names DICOM SEG does not know.

    Returns:
        The masks written, on the grids of their scans, with the ids that network.json names; in DICOM SEG the segments
        are numbered from 1 in the order of these ids.

    Raises:
        InputError: if there are no weights or no scans, codes without DICOM SEG, the configuration is of an earlier
            version, or a mask to keep holds other numbers than these ids; and, once the masks of all others are
            written, naming the scans that cannot be read.
    """
    if codes and format != "dicom_seg":
        raise InputError("--codes: only a DICOM SEG holds codes. Pass --format dicom_seg, too, or leave --codes out.")
    alone = arm is None and (weights / "model.pt").is_file() and _bundle_above(weights)
    bundle = alone or _find_bundle(weights)
    check_mask_values(bundle)
    ckpt_dir = weights if alone else _find_arm(bundle, arm)
    if not source.exists():
        raise InputError(f"IN: there is no file or folder {source}.")
    scans = [item["image"] for item in image_items(source)]
    logger.info("%s", "\n".join(account(source)))
    root = config_path(source.parent if len(scans) == 1 and source.is_file() else source, "IN")
    labels = read_record(ckpt_dir / "network.json", "--weights")["labels"]
    coded = codes_for(scans, [*labels], codes) if format == "dicom_seg" else []
    goals = _goals(scans, target, root, ".dcm" if coded else "")
    if source.is_dir() and _lies_in(target, source):
        if coded:
            raise InputError(f"OUT: {target} lies in IN, where a DICOM SEG would be taken for a scan: name another.")
        logger.warning("OUT lies in IN, where check and run will take these masks for labels: correct or move them")
    known = Known.beside(ckpt_dir)  # here, so that a damaged file is told of once and not for each scan
    goals = {scan: goals[scan] for scan in _to_do(goals, existing, list(labels.values()))}
    beside = target.parent if _is_file(target) else target
    settings = {"dataset_dir": root, **(keys or {}), "ckpt_dir": config_path(ckpt_dir, "--weights")}
    series = {scan: (Path(scan), labels, coded) for scan in goals if coded}
    written, failed = _segmented(bundle, goals, beside, settings, series)
    if written:
        named = ", ".join(f"{i} {name}" for name, i in labels.items())
        logger.info("%s: %s (0 background, %s)", counted(len(written), "mask"), target, named)
        logger.info("%s", quality_text(read_quality(beside / "quality.csv"), known.calibration))
    if failed:
        raise InputError("\n".join(failed))
    return written


def _bundle_above(weights: Path) -> Path | None:
    """The nearest segmentation bundle beside one of the folders that hold some weights."""
    read_network(weights, UNET)  # refuses those of another stage
    bundles = (folder / UNET for folder in Path(os.path.abspath(weights)).parents)
    return next((bundle for bundle in bundles if (bundle / "configs" / "inference.json").is_file()), None)


def _segmented(
    bundle: Path, goals: Mapping[str, Path], beside: Path, settings: Mapping[str, Any], series: Mapping[str, Series]
) -> tuple[list[Path], list[str]]:
    """Segment scans to their goals: the masks that are there, and what is wrong with the other scans.

    Args:
        bundle: with its configuration.
        goals: the place of each scan's mask.
        beside: the folder for ``quality.csv``.
        settings: keys of inference.json.
        series: of scans whose masks become DICOM SEG.
    """
    written, failed = list[Path](), list[str]()
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".segment-") as temporary:
        for scan, error in _infer(bundle, [*goals], {"output_dir": config_path(temporary, "OUT"), **settings}):
            try:
                if error:
                    raise InputError(error)
                if scan in series:
                    _encode(Path(temporary), *series[scan])
            except InputError as e:
                failed.append(str(e))
                for rest in filter(Path.is_file, [*Path(temporary).rglob("*")]):  # a mask without its row, or a row
                    rest.unlink()
                continue
            join_quality(Path(temporary, "quality.csv"), beside / "quality.csv")
            # last: a mask that is there is refused the next time
            written.append(_moved(Path(temporary), goals[scan]))
    return written, failed


def _find_bundle(weights: Path) -> Path:
    """The segmentation bundle with weights in a run's folder, or in the folder itself."""
    for place in (newest_round(weights) / UNET, weights):
        if (place / "configs" / "inference.json").is_file() and (place / "models" / "model.pt").is_file():
            return place
    if weights.is_file():
        raise InputError(f"--weights: {weights} is a file. Name the folder of the run or bundle that it is in.")
    raise InputError(
        f"--weights: {weights} is neither the folder of a finished run nor a bundle {UNET} with models/model.pt in it; "
        "nor, without --arm, weights that lie below the folder of the bundles. python -m ufc_monai run makes one."
    )


def _find_arm(bundle: Path, arm: str | None) -> Path:
    """The folder of the weights: of several fine-tunings that asked for, or that validated best."""
    stages = {"pretrained": FINE_TUNING, "random": RANDOM_FINE_TUNING, "labelled_alone": ALONE_FINE_TUNING}
    folders = {name: bundle / Path(stage.keys.get("ckpt_dir", "models")).name for name, stage in stages.items()}
    dice = {}
    for name in _standing(Path(os.path.abspath(bundle)), stages):
        if (folders[name] / "model.pt").is_file():
            chosen = read_record(folders[name] / "network.json", "--weights").get("chosen", {})
            dice[name] = float(chosen.get("val_mean_dice", -1))  # none where nothing validated
    if arm and arm not in dice:
        raise InputError(
            f"--arm: {bundle} has no weights of the arm {arm}, or they are out of date. Run with --compare, or leave "
            "--arm out."
        )
    taken = arm or max(dice, key=dice.__getitem__, default="pretrained")
    if len(dice) > 1 or taken != "pretrained":
        shown = ", ".join(f"{name} {value:.3f}" if value >= 0 else f"{name} none" for name, value in dice.items())
        others = "; --arm takes the others" * (len(dice) > 1)
        logger.info("weights: %s (validation Dice: %s)%s", taken, shown, others)
    return folders[taken]


def _standing(bundle: Path, stages: Mapping[str, Stage]) -> list[str]:
    """The arms of a run that are up to date and know the same data as its own; of a bundle that is no run's, all."""
    records = {name: record_of(bundle.parent, stage) for name, stage in stages.items()}
    if bundle.name != UNET or not any(records.values()):
        return list(stages)
    data = {name: record.get("asked", {}).get("data") for name, record in records.items()}
    return [n for n in stages if standing_record(bundle.parent, stages[n]) and data[n] == data["pretrained"]]


def _lies_in(target: Path, source: Path) -> bool:
    return Path(os.path.realpath(target)).is_relative_to(os.path.realpath(source))


def _encode(temporary: Path, scan: Path, ids: Mapping[str, int], codes: Sequence[Code]) -> None:
    """Put a DICOM SEG in the place of the mask in a temporary folder."""
    mask = _written(temporary, "seg")[0]
    write_dicom_seg(mask.with_name(f"{stem_of(mask)}.dcm"), mask, scan, ids, codes)
    mask.unlink()


def _moved(temporary: Path, goal: Path) -> Path:
    """Put the mask that was written in a temporary folder in its place, and beside it where views disagree."""
    goal.parent.mkdir(parents=True, exist_ok=True)
    for path in _written(temporary, "uncertainty"):
        shutil.move(path, goal.with_name(f"{stem_of(goal).removesuffix('_seg')}_uncertainty{suffix_of(path)}"))
    return Path(shutil.move(_written(temporary, "seg")[0], goal))


def _written(temporary: Path, ending: str) -> list[Path]:
    return [path for path in temporary.rglob(f"*_{ending}.*") if path.is_file()]


def _is_file(target: Path) -> bool:
    """Whether OUT names one mask."""
    return bool(suffix_of(target)) and not target.is_dir()


def _goals(scans: Sequence[str], target: Path, root: str, ending: str = "") -> dict[str, Path]:
    """Where the mask of each scan goes, with another suffix if one is given; never to the place of a scan."""
    goals = mask_paths(scans, target, root)
    goals = {scan: goal.with_name(f"{stem_of(goal)}{ending or suffix_of(goal)}") for scan, goal in goals.items()}
    if _is_file(target):
        suffix = suffix_of(target)
        if len(scans) != 1:
            raise InputError(f"OUT: {target} is one file, but there are {len(scans)} scans. Name a folder.")
        if suffix != (needed := suffix_of(goals[scans[0]])):
            raise InputError(
                f"OUT: the mask of this scan is written as *{needed}, got {target.name}. Name a *{needed} file."
            )
        goals = {scans[0]: target}
    if over := {os.path.realpath(scan) for scan in scans} & {os.path.realpath(goal) for goal in goals.values()}:
        raise InputError(f"OUT: the scan {min(over)} would be written over by a mask. Name another file or folder.")
    return goals


def _to_do(goals: Mapping[str, Path], existing: str, ids: Sequence[int]) -> list[str]:
    """The scans to segment, by what is asked about masks that are there already."""
    there = [goal for goal in goals.values() if goal.exists()]
    if there and existing == "refuse":
        more = f" and {len(there) - 1} more are" if len(there) > 1 else " is"
        raise InputError(
            f"OUT: {there[0]}{more} there already, maybe corrected by hand. Pass --existing overwrite to "
            "replace them, --existing keep to write only the others, or name another place."
        )
    if not there or existing == "overwrite":
        return list(goals)
    for mask in there:
        _check_kept(mask, ids)
    logger.info("kept: %s, there already", counted(len(there), "mask"))
    return [scan for scan, goal in goals.items() if not goal.exists()]


def _check_kept(path: Path, ids: Sequence[int]) -> None:
    """Refuse a mask with values that are not the ids: two meanings of a number would mix in silence."""
    if suffix_of(path) == ".dcm":  # the segments of a DICOM SEG bear their names
        return
    try:
        mask = LoadVolume()(path)[0].as_tensor().numpy()
    except InputError as error:
        logger.warning("%s is kept, although its values cannot be read (%s)", path, error)
        return
    values = sorted(set().union(*(np.unique(axial).tolist() for axial in np.moveaxis(mask, -1, 0))) - {0})
    if strange := [value for value in values if value not in ids]:
        found = ", ".join(f"{value:g}" for value in strange[:5])
        raise InputError(
            f"OUT: {path} cannot be kept: it holds {found}, which are no ids of these weights; masks hold the ids "
            f"{', '.join(map(str, ids))}. Move it away, or pass --existing overwrite."
        )


def _infer(bundle: Path, scans: Sequence[str], settings: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Run the bundle on one scan after the other: the image of each, and what is wrong with it if it failed."""
    for name, level in (("monai.bundle.workflows", logging.ERROR), ("ignite", logging.CRITICAL + 1)):
        logging.getLogger(name).setLevel(level)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        workflow = ConfigWorkflow(
            config_file=str(bundle / "configs" / "inference.json"),
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type="infer",
            bundle_root=config_path(bundle, "--weights"),
            # the scans come later: in a configuration a name that begins with $ would be run
            **{"dataset::data": [{}], "handlers": ["@quality"], **settings},
        )
        with unwrapped():
            workflow.initialize()
            dataset, network, evaluator = (
                workflow.parser.get_parsed_content(key) for key in ("dataset", "network", "evaluator")
            )
            load_weights(network, settings["ckpt_dir"])
        evaluator.interrupt_resume_enabled = False  # else a failed run could only be gone on with
        for scan in tqdm(scans, "segment", unit="scan", disable=None):
            dataset.data = [{"image": scan}]
            failed = None
            try:
                evaluator.run()
            except Exception as error:
                failed = str(find_input_error(error) or f"{scan}: {last_words(error)}")
            yield scan, failed
