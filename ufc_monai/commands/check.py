"""``check``: what is in a data set's folder, and what a run would do with it. Trains nothing."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path

from ufc_monai.base.bundles import UNET
from ufc_monai.base.errors import InputError
from ufc_monai.base.machine import size
from ufc_monai.data.datalist import account, find_cases, one_look
from ufc_monai.data.problems import without_bad
from ufc_monai.data.split import make_split
from ufc_monai.planning import tables
from ufc_monai.planning.estimate import estimate_stages, known_ignore_id, known_labels, read_volumes, reading_memory
from ufc_monai.planning.options import RunOptions, default_bundles, open_config, open_split_of, training_configs
from ufc_monai.planning.plan import plan_stages
from ufc_monai.planning.stages import shown
from ufc_monai.planning.structures import measure_structures, structure_remarks, structure_table
from ufc_monai.report.page import counted
from ufc_monai.report.slices import Overlay, save_preview
from ufc_monai.transforms.labels import classes_of

logger = logging.getLogger(__name__)

PREVIEWS = 24
ENDS: dict[str, Callable[[Sequence[float]], tuple[float, float]]] = {
    "clipped": lambda hu: (hu[0], hu[3]),
    "8-bit": lambda _: (0.0, 255.0),
    "not HU": lambda hu: (hu[1], hu[2]),
}
"""The range of a volume's values, by the kind of its problem, where it is not a full CT scan."""


def run_check(options: RunOptions, *, output: Path = Path("check_preview.png"), write: Path | None = None) -> int:
    """Look at a data set: print tables of it, an estimate and its problems, and draw a preview.

    Args:
        options: of the planned run; nothing is written to its folder.
        output: the preview, a PNG file.
        write: where to write the split; ``None`` only shows it.

    Returns:
        The exit code: 1 if something has to be mended before training, else 0.

    Raises:
        InputError: if there is no volume, or an option does not fit the data set.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"--output: the preview is a PNG file, got {output}. Name a *.png file.")
    with one_look():
        return _check(options, output, write)


def _check(options: RunOptions, output: Path, write: Path | None) -> int:
    found = _Findings(options)
    facts, split = found.facts, make_split(found.cases, seed=0)
    granted = split["folds"][options.fold]["label_orders"][options.label_draw][: options.labelled]
    _say(found.totals(), *account(options.dataset_dir))
    _say(*tables.volume_table(facts))
    if any(f.label_voxels for f in facts):
        _say(*tables.label_table(facts, found.labels, found.background, known_ignore_id(options)))
        if table := structure_table(found.extents, found.config):
            _say(*table)
    _say(*tables.split_table(split, options.fold, granted), _written(options, write))
    if any(f.slices for f in facts):
        _say(*found.estimate())
        _say(found.drawn(output))
    against = tables.standing_against(facts, found.labels, found.background)
    if odd := against + tables.problem_list(facts, blocking=False) + found.remarks(granted):
        _say(*odd)
    if wrong := sum(problem.blocking for f in facts for problem in f.problems):
        _say(f"{wrong} problem{'s' * (wrong > 1)}: mend what is marked with ! above, then check again")
    else:
        condition = ", once the structures are named" if against else ""
        _say(f"ready{condition}: {found.next_command()}")
    return int(bool(against))


class _Findings:
    """What was found out about a data set: of each of its cases the facts, and the structures that have a name."""

    def __init__(self, options: RunOptions) -> None:
        cases = find_cases(options.dataset_dir, options.include_test_images)
        plan_stages(options, cases)  # refuses options that do not fit, as the run would
        facts = read_volumes(options, cases, PREVIEWS)
        if options.skip_bad:
            bad = {f.image: p.text for f in facts for p in f.problems if p.bad_file}
            cases, skipped = without_bad(cases, options.dataset_dir, bad)
            facts = [f for f in facts if f.image not in skipped]
            plan_stages(options, cases)
        self.options, self.cases, self.facts, self.labels = options, cases, facts, known_labels(options)
        self.config = open_config(options, UNET).get()
        self.background, self.window = self.config["background_labels"], self.config["window"]
        self.suggested = self._suggested_window()
        self.unnamed = tables.unnamed_ids(facts, self.background)
        sound = {f.image for f in facts if f.label_voxels and not any(p.blocking for p in f.problems)}
        labelled, names = [case for case in cases if case.image in sound], self.labels or self.unnamed
        self.extents = measure_structures(options.dataset_dir, labelled, names, self.config)

    def totals(self) -> str:
        cases = self.cases
        labelled = sum(case.label is not None for case in cases)
        return (
            f"{self.options.dataset_dir}: {counted(len({c.patient for c in cases}), 'patient')}, "
            f"{counted(len(cases), 'volume')} "
            f"({labelled} labelled, {len(cases) - labelled} unlabelled), "
            f"{counted(sum(f.slices for f in self.facts), 'axial slice')}"
        )

    def estimate(self) -> list[str]:
        estimates = estimate_stages(self.options, self.cases, self.facts)
        at_once, reading = reading_memory(self.cases, self.facts)
        preset = "+".join(training_configs(self.options, UNET)[1:]) or "gpu"
        return [
            f"estimate for preset {preset} on {estimates[0].device}; starting programs and the final test come on top",
            *tables.estimate_table(estimates),
            f"(reading volumes, {at_once} at once, takes up to {size(reading)} "
            f"of memory; free on this disk: {size(shutil.disk_usage('.').free)})",
        ]

    def drawn(self, output: Path) -> str:
        low, high = self.suggested or self.window
        names, overlays = self.labels or self.unnamed, []
        for patient, preview in ((f.patient, f.preview) for f in self.facts if f.preview):
            image, classes = ((preview.image - low) / (high - low)).clip(0, 1), None
            if preview.label is not None:
                classes = classes_of(preview.label, names.values())
            overlays.append(Overlay(patient, image, classes, None, preview.aspect))
        save_preview(output, overlays, list(names))
        return f"preview of {len(overlays)} volumes: {output}"

    def remarks(self, granted: Sequence[str]) -> list[str]:
        """What is odd about the data set as a whole."""
        lines = []
        seen = {value for f in self.facts if f.image in granted for value in f.label_voxels}
        missing = [name for name, i in (self.labels or {}).items() if i not in seen]
        if granted and missing:
            lines.append(f"- none of the granted labels ({len(granted)}) contains {', '.join(missing)}")
            lines.append("    They cannot be learned: grant more with --labelled, or others with --label_draw.")
        lines += structure_remarks(self.extents, self.config)
        if self.suggested:
            used, suggested = ("[{:g},{:g}]".format(*window) for window in (self.window, self.suggested))
            lines.append(f"- the values do not fill the window {used}, the Hounsfield units that become 0 to 1")
            lines.append(f'    Suggested: --window "{suggested}"')
        return lines

    def next_command(self) -> str:
        """The command of the planned run, with what differs from its defaults and the options it still needs."""
        options, usual = self.options, default_bundles()
        values = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
        chosen = {name: v for name, (v, default) in values.items() if default is not MISSING and v != default}
        given = {"dataset_dir": options.dataset_dir, **chosen, **options.keys}
        given |= {"window": self.suggested} if self.suggested else {}
        given |= {} if usual and options.bundles.samefile(usual) else {"bundles": options.bundles}
        words = ["python", "-m", "ufc_monai", "run"]
        for name, value in given.items():
            words += [f"--{name}"] if name in chosen and value is True else [f"--{name}", str(value)]
        for bundle, changes in options.overrides.items():
            words += [word for key, value in changes.items() for word in ("--set", f"{bundle}.{key}={value}")]
        example = [tables.labels_example(self.unnamed)] if self.labels is None and self.unnamed else []
        return " ".join([shown(words), *example])

    def _suggested_window(self) -> list[int] | None:
        """The range of the values, where most volumes are no full CT scans and the window in use reaches beyond."""
        read = [f for f in self.facts if f.hu]
        ranges = [ENDS[p.kind](f.hu) for f in read if f.hu for p in f.problems if p.kind in ENDS]
        if 2 * len(ranges) <= len(read):
            return None
        low, high = (round(statistics.median(ends)) for ends in zip(*ranges, strict=True))
        return None if low >= high or (low <= self.window[0] and self.window[1] <= high) else [low, high]


def _written(options: RunOptions, write: Path | None) -> str:
    if write is None:
        return "  (run draws the same; --write split.json writes it down)"
    return f"  (written to {open_split_of(options, write).path}; hand it to a stage with --split_path)"


def _say(*lines: str) -> None:
    logger.info("%s\n", "\n".join(lines))
