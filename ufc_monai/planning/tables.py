"""The tables of ``check``, as lines of text."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ufc_monai.base.chain import ALONE_FINE_TUNING, FINE_TUNING, PRETRAINING, RANDOM_FINE_TUNING, VAE_TRAINING
from ufc_monai.base.machine import VARIES, own_memory, size
from ufc_monai.data.inspect import VolumeFacts
from ufc_monai.data.problems import ADVICE, LEAVE_OUT, Problem
from ufc_monai.planning.estimate import StageEstimate
from ufc_monai.report.page import aligned
from ufc_monai.training.log import duration
from ufc_monai.transforms.labels import is_id

MOST_ROWS = 40
"""With more volumes, only the unusual ones are listed."""
MOST_NAMES = 20
"""Ids without a name that are shown in the preview and in the example of ``--labels``."""
WIDTH = 110
STAGES = {
    VAE_TRAINING.title: "1  auto-encoder, clusters",
    PRETRAINING.title: "2  contrastive pretraining",
    FINE_TUNING.title: "3  fine-tuning, pretrained encoder",
    RANDOM_FINE_TUNING.title: "3  fine-tuning, random weights",
    ALONE_FINE_TUNING.title: "3  fine-tuning, labelled scans alone",
}


def volume_table(facts: Sequence[VolumeFacts]) -> list[str]:
    """One row per volume; with many volumes, only those that differ from most."""
    listed = list(facts)
    if len(facts) > MOST_ROWS:
        common = Counter(kind for f in facts for kind in {p.kind for p in f.problems})
        odd = {kind for kind, n in common.items() if n < len(facts) / 2}
        listed = [f for f in facts if odd & {p.kind for p in f.problems}][:MOST_ROWS]
    head = ("", "volume", "patient", "voxels", "mm", "axes", "HU min", "1%", "99%", "max", "label")
    lines = aligned([head, *map(_volume_row, listed)], left=3).splitlines() if listed else []
    if len(listed) < len(facts):
        lines.append(f"{len(facts) - len(listed)} volumes like most are not listed")
    return lines


def label_table(
    facts: Sequence[VolumeFacts], names: Mapping[str, int] | None, background: Sequence[int], ignore_id: int | None
) -> list[str]:
    """Volumes and voxels of every structure, and of ids without a name."""
    volumes = Counter(value for f in facts for value in f.label_voxels if value != 0)
    voxels = sum((Counter(f.label_voxels) for f in facts), Counter[float]())
    titles: dict[float, str] = {i: name for name, i in (names or {}).items()}
    known: dict[float | None, str] = {**dict.fromkeys(background, "(background)"), ignore_id: "(ignored)"}
    rest = {value: known.get(value, "(no name)") for value in sorted(volumes)[:MOST_ROWS]}
    rows = [(name, f"{i:g}", str(volumes[i]), f"{voxels[i]:,}") for i, name in {**rest, **titles}.items()]
    head = ("structure", "id", "volumes", "voxels")
    return aligned([head, *sorted(rows, key=lambda row: float(row[1]))]).splitlines()


def split_table(split: Mapping[str, Any], fold: int, granted: Sequence[str]) -> list[str]:
    """The patients for training, validation and test, and the volumes whose labels are granted."""
    roles = {role: split["folds"][fold][role] for role in ("training", "validation", "test")}
    roles["unlabelled"] = split["unlabelled"]
    lines = [f"split, fold {fold} of {len(split['folds'])}"]
    for role, patients in roles.items():
        what = "patient " if len(patients) == 1 else "patients"
        lines += _listed(f"  {role:<11}{len(patients):>4} {what}  ", patients)
    if roles["training"] and not roles["test"]:
        lines.append("  fewer than 4 labelled patients: none is held out, so nothing can be tested")
    return lines + (_listed(f"  labels of  {len(granted):>4} volumes   ", granted) if granted else [])


def estimate_table(estimates: Sequence[StageEstimate]) -> list[str]:
    """Steps, time, disk and memory of each stage; the largest memory may be that of this process."""
    head = ("stage", "steps", "time", "slice store", "memory")
    rows = [
        (STAGES[e.stage], f"{e.steps:,}", duration(e.seconds), size(e.disk_bytes), size(e.memory_bytes))
        for e in estimates
    ]
    time, disk = sum(e.seconds for e in estimates), sum(e.disk_bytes for e in estimates)
    memory = max(VARIES * own_memory(), *(e.memory_bytes for e in estimates))
    return aligned([head, *rows, ("all", "", duration(time), size(disk), size(memory))]).splitlines()


def problem_list(facts: Sequence[VolumeFacts], blocking: bool) -> list[str]:
    """What is unusual, one paragraph per kind.

    Args:
        facts: of the volumes.
        blocking: list what has to be fixed, marked with an exclamation mark; otherwise the rest.
    """
    found: dict[str, list[tuple[str, Problem]]] = defaultdict(list)
    for f in facts:
        for problem in f.problems:
            if problem.blocking == blocking:
                found[problem.kind].append((f.image, problem))
    lines = []
    for kind, where in found.items():
        more = f" ({len(where)} volumes like it)" if len(where) > 3 else ""
        lines += [f"{'!' if blocking else '-'} {i}: {p.text}{more}" for i, p in where[: 1 if more else None]]
        lines.append(f"    {ADVICE[kind]} {LEAVE_OUT if where[0][1].bad_file else ''}".rstrip())
    return lines


def standing_against(
    facts: Sequence[VolumeFacts], labels: Mapping[str, int] | None, ignored: Sequence[int]
) -> list[str]:
    """What has to be fixed before training: ``check``, ``run``, ``next`` and ``study`` all ask here.

    Args:
        facts: of the volumes.
        labels: names and ids of the structures; ``None`` if they are unnamed.
        ignored: ids that become background.
    """
    lines = problem_list(facts, blocking=True)
    if labels is None and (ids := unnamed_ids(facts, ignored)):
        lines += ["! the structures have no names", f"    Name those that you want: {labels_example(ids)}"]
    return lines


def unnamed_ids(facts: Sequence[VolumeFacts], ignored: Sequence[int]) -> dict[str, int]:
    """The first ids found, each named by its own number."""
    ids = {int(value) for f in facts for value in f.label_voxels if value and is_id(value)}
    return {str(i): i for i in sorted(ids - set(ignored))[:MOST_NAMES]}


def labels_example(ids: Mapping[str, int]) -> str:
    """An example of the option that names structures."""
    return f'--labels "{ {f"name of {i}": i for i in ids.values()} }"'


def _volume_row(f: VolumeFacts) -> tuple[str, ...]:
    mark = "!" if any(p.blocking for p in f.problems) else "-" if f.problems else ""
    label = "" if f.label is None else f"{len(f.label_voxels.keys() - {0})} ids"
    if f.grid is None or f.hu is None:
        return (mark, f.image, f.patient, *["?"] * 7, label and "?")
    voxels, spacing = "x".join(map(str, f.grid.shape)), "x".join(f"{mm:.3g}" for mm in f.grid.spacing)
    return (mark, f.image, f.patient, voxels, spacing, f.grid.orientation, *(f"{v:.0f}" for v in f.hu), label)


def _listed(head: str, names: Sequence[str]) -> list[str]:
    """Names after a heading, on three lines at most."""
    lines = textwrap.wrap(", ".join(names), WIDTH - len(head), max_lines=3, placeholder=" ...", break_on_hyphens=False)
    return [f"{head if i == 0 else ' ' * len(head)}{line}".rstrip() for i, line in enumerate(lines or [""])]
