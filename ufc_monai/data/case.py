"""One volume of a data set, and the structures of the data set that the defaults are for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

MMWHS_LABELS = {
    "left_ventricle": 500,
    "right_ventricle": 600,
    "left_atrium": 420,
    "right_atrium": 550,
    "myocardium": 205,
    "aorta": 820,
    "pulmonary_artery": 850,
}
"""Structures of the Multi-Modality Whole Heart Segmentation challenge 2017 and their ids in its label files."""


@dataclass(frozen=True)
class Case:
    """One volume of a data set.

    Attributes:
        image: path of the image relative to the data set's folder, with forward slashes.
        label: path of its label, or ``None``.
        patient: its patient; patients are what is split, never volumes or slices.
        role: ``training``, ``validation`` or ``test`` where the data set has an official split.
        of_test_set: whether it lies where data sets keep a test set: ``imagesTs``, or dataset.json's list ``test``.
    """

    image: str
    label: str | None
    patient: str
    role: str | None = None
    of_test_set: bool = field(default=False, compare=False)

    def item(self, dataset_dir: str | os.PathLike[str]) -> dict[str, str]:
        """The volume as MONAI's transforms take it: absolute paths under ``image`` and, if any, ``label``."""
        root = os.path.abspath(dataset_dir)
        item = {"image": os.path.join(root, self.image), "patient": self.patient}
        return item if self.label is None else item | {"label": os.path.join(root, self.label)}
