"""What can be odd about a volume, in plain sentences, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ufc_monai.transforms.grid import GRID_ADVICE
from ufc_monai.transforms.labels import IGNORE, few, is_id

ADVICE = {
    "unreadable": "Nothing can be trained until it is mended.",
    "label unreadable": "Nothing can be trained until it is mended.",
    "no label": "Export the label again, by the nearest voxel where it is resampled.",
    "unnamed ids": "Name them in --labels, or make them background with --background_labels.",
    "empty label": "If it is yet to be drawn, remove the label file: the volume then counts as unlabelled.",
    "same content": "Remove one of them: one scan under two patients' names leaks from training into the test.",
    "same content, same patient": "Remove one of them: it counts twice.",
    "8-bit": "Pictures are such: choose the --window to match, or --preset isic for those in colour. For CT, find the "
    "original volumes.",
    "clipped": "A window that reaches beyond that range wastes contrast: choose the --window within it.",
    "not HU": "For CT, apply the rescale slope and intercept; for anything else choose the --window to match.",
    "impossible HU": "Check its rescale slope and intercept; padding is best written as -1024.",
    "few slices": "Check that it is not a localiser or screenshot.",
    "odd spacing": "Check its header, and that it is the same kind of scan.",
    **GRID_ADVICE,
}
"""What to do about each kind of problem."""
LEAVE_OUT = "Or go on without such volumes: --skip_bad True."
"""What else can be done about a bad file."""
BAD_FILES = {"unreadable", "label unreadable", "other grid", "flipped label", "no label"}
"""Kinds that are of one volume's files alone, so that one may go on without it."""
BLOCKING = BAD_FILES | {"unnamed ids", "same content"}
"""Kinds that stop training, or make it learn nonsense."""
AIR = -200.0
"""A CT scan holds air, -1000 HU, around or within the body; one without anything below this was clipped."""
HU_RULES: tuple[tuple[str, Callable[[float, float], bool], str], ...] = (
    ("8-bit", lambda low, high: low >= 0 and high <= 255, "look like 8-bit grey values, not HU"),
    ("impossible HU", lambda low, high: low < -5000 or high > 35000, "are impossible for HU"),
    ("not HU", lambda low, high: low >= 0, "are not HU, in which air is -1000: no value is below 0"),
    ("clipped", lambda low, high: low > AIR, "look clipped to a window: nothing outside it can be recovered"),
)
"""What the smallest and the largest value of an image tell: kind of problem, when, what the values do."""
MOST_IDS = 1000
"""A file with more values than that is not a label."""


@dataclass(frozen=True)
class Problem:
    """Something odd about one volume.

    Attributes:
        kind: one of the keys of :data:`ADVICE`.
        text: a plain sentence, without the name of the image.
    """

    kind: str
    text: str

    @property
    def blocking(self) -> bool:
        """Whether training would stop at it, or learn nonsense from it."""
        return self.kind in BLOCKING

    @property
    def bad_file(self) -> bool:
        """Whether the volume's files are bad, and ``skip_bad`` leaves it out."""
        return self.kind in BAD_FILES


def hu_problems(low: float, high: float) -> list[Problem]:
    """What the range of an image's values tells: the first of :data:`HU_RULES` that holds, if any."""
    found = ((kind, text) for kind, holds, text in HU_RULES if holds(low, high))
    return [Problem(kind, f"its values, {low:g} to {high:g}, {text}.") for kind, text in islice(found, 1)]


def label_problems(voxels: Mapping[float, int], claimed: Mapping[Any, int] | None) -> list[Problem]:
    """What the values of a label tell.

    Args:
        voxels: number of voxels of each value.
        claimed: the class of each id that means something, 0 among them; ``None`` if that is not known.
    """
    strange = [value for value in voxels if not is_id(value)]
    if strange or len(voxels) > MOST_IDS:
        return [Problem("no label", f"its label holds values that are not ids: {few(strange or voxels)}.")]
    classes = claimed or {0: 0}
    if all(classes.get(value) in (0, IGNORE) for value in voxels):
        return [Problem("empty label", "its label is empty.")]
    unnamed = [value for value in voxels if claimed is not None and value not in claimed]
    return [Problem("unnamed ids", f"its label holds ids without a name: {few(unnamed)}.")] if unnamed else []
