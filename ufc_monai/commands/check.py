"""``check``: what is in a data set's folder, and what a run would do with it. Trains nothing."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ufc_monai.bundles import UNET
from ufc_monai.commands.check_tables import (
    estimate_table,
    label_table,
    labels_example,
    problem_list,
    size,
    split_table,
    standing_against,
    unnamed_ids,
    volume_table,
)
from ufc_monai.commands.estimate import (
    estimate_stages,
    known_ignore_id,
    known_labels,
    read_volumes,
    reading_memory,
)
from ufc_monai.commands.options import RunOptions, default_bundles, open_config, open_split_of, training_configs
from ufc_monai.commands.plan import plan_stages
from ufc_monai.commands.stages import shown
from ufc_monai.data import Case, find_cases, make_split, without_bad
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.errors import InputError
from ufc_monai.report.slices import Overlay, save_preview

__all__ = ["run_check"]

logger = logging.getLogger(__name__)

PREVIEWS = 24


@dataclass(frozen=True)
class _Findings:
    """What was found out about a data set.

    Attributes:
        options: of the run that is foretold.
        cases: the volumes.
        facts: of each.
        labels: names and ids of the structures; ``None`` if nobody has named them.
        background: ids that become background.
        ignore_id: the id of voxels that do not count.
        window: that the run would use.
    """

    options: RunOptions
    cases: Sequence[Case]
    facts: Sequence[VolumeFacts]
    labels: Mapping[str, int] | None
    background: Sequence[int]
    ignore_id: int | None
    window: tuple[float, float]


def run_check(options: RunOptions, *, output: Path = Path("check_preview.png"), write: Path | None = None) -> int:
    """Look at a data set: print tables of it, an estimate and its problems, and draw a preview.

    Args:
        options: those of the run that is to follow; nothing is written to its folder.
        output: the preview, a PNG file.
        write: where to write the split; ``None`` only shows it.

    Returns:
        The exit code: 1 if something has to be mended before training, else 0.

    Raises:
        InputError: if there is no volume, or an option does not fit the data set.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"--output: the preview is a PNG file, got {output}. Name a *.png file.")
    found = _find_out(options)
    split = make_split(found.cases, seed=0)
    granted = split["folds"][options.fold]["label_orders"][options.label_draw][: options.labelled]
    _say(_totals(found), *volume_table(found.facts))
    if any(f.label_voxels for f in found.facts):
        _say(*label_table(found.facts, found.labels, found.background, found.ignore_id))
    _say(*split_table(split, options.fold, granted), _written(found, write))
    if any(f.slices for f in found.facts):
        _say(*_estimate(found))
        _say(_drawn(found, output))
    against = standing_against(found.facts, found.labels, found.background)
    if odd := against + problem_list(found.facts, blocking=False) + _remarks(found, granted):
        _say(*odd)
    wrong = sum(problem.blocking for f in found.facts for problem in f.problems)
    if wrong:
        _say(f"{wrong} problem{'s' * (wrong > 1)}: mend what is marked with ! above, then check again")
    else:
        condition = ", once the structures are named" if against else ""
        _say(f"ready{condition}: {_next_command(found)}")
    return int(wrong > 0)


def _find_out(options: RunOptions) -> _Findings:
    cases = find_cases(options.dataset_dir, options.include_test_images)
    plan_stages(options, cases)  # refuses options that do not fit, as the run would
    facts = read_volumes(options, cases, PREVIEWS)
    if options.skip_bad:
        bad = {f.image: p.text for f in facts for p in f.problems if p.bad_file}
        cases, skipped = without_bad(cases, options.dataset_dir, bad)
        facts = [f for f in facts if f.image not in skipped]
        plan_stages(options, cases)
    window, background = (open_config(options, UNET)[key] for key in ("window", "background_labels"))
    labels, ignore_id = known_labels(options), known_ignore_id(options)
    return _Findings(options, cases, facts, labels, background, ignore_id, (window[0], window[1]))


def _totals(found: _Findings) -> str:
    labelled = sum(case.label is not None for case in found.cases)
    return (
        f"{found.options.dataset_dir}: {len({c.patient for c in found.cases})} patients, {len(found.cases)} volumes "
        f"({labelled} labelled, {len(found.cases) - labelled} unlabelled), "
        f"{sum(f.slices for f in found.facts):,} axial slices"
    )


def _written(found: _Findings, write: Path | None) -> str:
    if write is None:
        return "  (run draws the same; --write split.json writes it down)"
    split = open_split_of(found.options, write)
    return f"  (written to {split.path}; hand it to a stage with --split_path)"


def _estimate(found: _Findings) -> list[str]:
    estimates = estimate_stages(found.options, found.cases, found.facts)
    at_once, reading = reading_memory(found.cases, found.facts)
    preset = "+".join(training_configs(found.options, UNET)[1:]) or "paper"
    return [
        f"estimate for preset {preset} on {estimates[0].device}; starting programs and the final test come on top",
        *estimate_table(estimates),
        f"(reading volumes, {at_once} at once, takes up to {size(reading)} "
        f"of memory; free on this disk: {size(shutil.disk_usage('.').free)})",
    ]


def _drawn(found: _Findings, output: Path) -> str:
    low, high = _suggested_window(found) or found.window
    names = found.labels or unnamed_ids(found.facts, found.background)
    overlays = []
    for f in found.facts:
        if f.preview:
            image = ((f.preview.image - low) / (high - low)).clip(0, 1)
            classes = _classes(f.preview.label, list(names.values()))
            overlays.append(Overlay(f.patient, image, classes, None, f.preview.aspect))
    save_preview(output, overlays, list(names))
    return f"preview of {len(overlays)} volumes: {output}"


def _classes(label: NDArray[Any] | None, ids: Sequence[int]) -> NDArray[np.uint8] | None:
    """Classes 1..n in the order of the ids, 0 for all else."""
    if label is None:
        return None
    return np.select([label == i for i in (0, *ids)], range(len(ids) + 1), 0).astype(np.uint8)


def _remarks(found: _Findings, granted: Sequence[str]) -> list[str]:
    """What is odd about the data set as a whole."""
    lines = []
    if found.labels is not None and granted:
        seen = {value for f in found.facts if f.image in granted for value in f.label_voxels}
        missing = [name for name, i in found.labels.items() if i not in seen]
        if missing:
            lines.append(f"- none of the labels that are granted ({len(granted)}) holds {', '.join(missing)}")
            lines.append("    It cannot be learned from them: grant more with --labelled, or others with --label_draw.")
    if window := _suggested_window(found):
        used = f"[{found.window[0]:g},{found.window[1]:g}]"
        lines.append(f"- the values do not fill the window {used}, the Hounsfield units that become 0 to 1")
        lines.append(f'    Suggested: --window "[{window[0]},{window[1]}]"')
    return lines


def _suggested_window(found: _Findings) -> tuple[int, int] | None:
    """The range of the values, where most volumes are no full CT scans and the window in use reaches beyond."""
    ranges = []
    for f in found.facts:
        kinds = {p.kind for p in f.problems}
        if f.hu and "clipped" in kinds:
            ranges.append((f.hu[0], f.hu[3]))
        elif f.hu and "8-bit" in kinds:
            ranges.append((0.0, 255.0))
        elif f.hu and "not HU" in kinds:
            ranges.append((f.hu[1], f.hu[2]))
    if 2 * len(ranges) <= sum(f.hu is not None for f in found.facts):
        return None
    low, high = (round(statistics.median(ends)) for ends in zip(*ranges, strict=True))
    return None if low >= high or (low <= found.window[0] and found.window[1] <= high) else (low, high)


def _next_command(found: _Findings) -> str:
    """The run that was foretold, with what should be added."""
    options, window, usual = found.options, _suggested_window(found), default_bundles()
    given = {
        "dataset_dir": options.dataset_dir,
        "labelled": options.labelled,
        "preset": None if options.preset == "auto" else options.preset,
        **options.keys,
        **({"window": list(window)} if window else {}),
        "method": options.method,
        "bundles": None if usual and options.bundles.resolve() == usual.resolve() else options.bundles,
    }
    words = ["python", "-m", "ufc_monai", "run", *(["--compare"] if options.compare else [])]
    words += [word for key, value in given.items() if value is not None for word in (f"--{key}", str(value))]
    for bundle, changes in options.overrides.items():
        words += [word for key, value in changes.items() for word in ("--set", f"{bundle}.{key}={value}")]
    command = shown(words)
    unnamed = found.labels is None and unnamed_ids(found.facts, found.background)
    return f"{command} {labels_example(unnamed)}" if unnamed else command


def _say(*lines: str) -> None:
    logger.info("%s\n", "\n".join(lines))
