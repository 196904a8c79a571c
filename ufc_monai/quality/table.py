"""``quality.csv`` beside the masks, one row a scan and structure, and pictures of where views disagree."""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys
from torch import nn
from torch.nn import functional as F

from ufc_monai.artifacts.served import cleaning_beside
from ufc_monai.base.ranks import Reporter
from ufc_monai.base.tables import read_table, write_table
from ufc_monai.quality.known import Known, voxel_of
from ufc_monai.quality.predict import Signs, Usual, evidence
from ufc_monai.quality.views import VIEWS, Infer, Seen, look
from ufc_monai.transforms.save import RestoreGridd, SaveMask

HEAD = (
    "scan",
    "structure",
    "predicted_dice",
    "agreement",
    "confidence",
    "fragments",
    "millilitres",
    "unlikeness",
    "note",
)
STRANGE = 3.0
"""Standard deviations from the labelled scans that are worth a note."""


@dataclass(eq=False)
class QualityTable(Reporter):
    """Look again at each scan that an evaluator segments, and write ``quality.csv`` with all of them.

    Args:
        output_dir: folder of the masks.
        ckpt_dir: folder of the weights, with ``quality.json`` if they come with one.
        network: that segments.
        infer: runs it on slices.
        names: of the classes 1..n.
        data_root_dir: folder that the scans' names are relative to.
        uncertainty: also write, for each scan, an image with the share of views that say another class, in percent.
    """

    output_dir: str | os.PathLike[str]
    ckpt_dir: str | os.PathLike[str]
    network: nn.Module
    infer: Infer
    names: list[str]
    data_root_dir: str | os.PathLike[str] = ""
    uncertainty: bool = False

    def __post_init__(self) -> None:
        self.mean_dice = math.nan
        """Mean predicted Dice of the latest scan; NaN where none is predicted."""

    @property
    def calibration(self) -> str:
        """How a Dice was predicted, and how well, in words."""
        return str(Known.beside(self.ckpt_dir).calibration)

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator."""
        super().attach(engine)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._look)

    def _started(self, engine: Engine) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._known, self._cleaning = Known.beside(self.ckpt_dir), cleaning_beside(self.ckpt_dir)()

    def _look(self, engine: Engine) -> None:
        image, logits = engine.state.output[CommonKeys.IMAGE], engine.state.output[CommonKeys.PRED]
        self._seen = look(
            *(self.network, self.infer, image[0], logits[0]),
            cleaning=self._cleaning,
            voxel=voxel_of(engine.state.batch[CommonKeys.IMAGE]),
            disagreement=self.uncertainty,
        )

    def _iteration_completed(self, engine: Engine) -> None:
        (item,) = engine.state.output
        path = item[CommonKeys.IMAGE].meta["filename_or_obj"]
        below = os.path.relpath(path, self.data_root_dir) if self.data_root_dir else ""
        scan = Path(path).name if below in ("", os.curdir) or below.startswith(os.pardir) else Path(below).as_posix()
        rows = self._rows_of(scan, self._seen)
        self._rows += rows
        self.mean_dice = statistics.fmean([float(row[2]) for row in rows if row[2]] or [math.nan])
        if self._seen.disagreement is not None:
            levels = F.one_hot(torch.from_numpy(self._seen.disagreement).long(), len(VIEWS) + 1).permute(3, 0, 1, 2)
            restored = RestoreGridd("pred")({**item, "pred": levels})["pred"]
            SaveMask(self.output_dir, self.data_root_dir, "uncertainty")((restored * 100.0 / len(VIEWS)).byte())

    def _completed(self, engine: Engine) -> None:
        write_quality(Path(self.output_dir, "quality.csv"), self._rows)

    def _rows_of(self, scan: str, seen: Seen) -> list[tuple[Any, ...]]:
        unlike = self._known.unlikeness(seen.features)
        rows = []
        for name, signs in zip(self.names, seen.signs, strict=True):
            usual = self._known.usual.get(name)
            numbers = (self._known.calibration.dice(signs, usual), *signs[:3], signs.place.millilitres, unlike)
            rows.append((scan, name, *("" if x is None else f"{x:.4f}" for x in numbers), _note(signs, usual, unlike)))
        return rows


def write_quality(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """Write ``quality.csv``.

    Args:
        path: the file.
        rows: below :data:`HEAD`.
    """
    write_table(path, [HEAD, *rows])


def join_quality(new: Path, there: Path) -> None:
    """Add the rows of one ``quality.csv`` to another, in the place of those of the same scans."""
    if not new.is_file():
        return
    tables = [_rows_in(path) for path in (there, new)]
    scans = {row[0] for row in tables[1]}
    write_quality(there, [row for row in tables[0] if row[0] not in scans] + tables[1])


def _rows_in(path: Path) -> list[tuple[Any, ...]]:
    rows = read_table(path) if path.is_file() else []
    return [tuple(row.values()) for row in rows if (*row,) == HEAD]  # else another version's


def _note(signs: Signs, usual: Usual | None, unlike: float | None) -> str:
    """What is odd about a mask, in a few words."""
    found = signs.place.millilitres > 0
    _, _, _, _, volume, place = evidence(signs, usual).tolist() if found else [0.0] * 6
    notes = {
        "scan unlike the training set": unlike is not None and unlike > 1,
        "not found": not found and usual is not None and usual.share >= 0.5,
        "unusual volume": volume > STRANGE,
        "unusual place": place > STRANGE,
    }
    return "; ".join(text for text, holds in notes.items() if holds)
