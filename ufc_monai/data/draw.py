"""Drawing a split: which patients train, validate, test, and in which order their labels are granted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ufc_monai.data.case import Case
from ufc_monai.data.dataset_json import ROLES

FORMAT = 1
"""Of ``split.json``."""
N_FOLDS = 4
"""Folds of the cross-validation; training : validation : test is 2 : 1 : 1 as in the paper."""
N_DRAWS = 5
"""Label draws: orders in which the labels of the training volumes are granted, one nested list each."""


def make_split(cases: Sequence[Case], seed: int) -> dict[str, Any]:
    """Draw folds and label orders; the part of ``split.json`` that does not depend on the files' content.

    Fold f tests on part f of four, validates on part f + 1 and trains on the other two. Fewer than 4 labelled patients
    make a single fold in which all of them train. An official split is a single fold, too.
    """
    drawn = np.random.default_rng(seed).permutation(sorted({c.patient for c in cases if c.label})).tolist()
    parts = [sorted(drawn[f::N_FOLDS]) for f in range(N_FOLDS)]
    if any(c.role for c in cases):
        # without a label one cannot train on it, but held out it stays
        known = [c for c in cases if c.label or c.role != "training"]
        folds = [{role: sorted({c.patient for c in known if c.role == role}) for role in ROLES}]
    elif len(drawn) < N_FOLDS:
        folds = [{"training": sorted(drawn), "validation": [], "test": []}]
    else:
        folds = [
            {"training": sorted({*drawn}.difference(validation, test)), "validation": validation, "test": test}
            for test, validation in zip(parts, parts[1:] + parts[:1], strict=True)
        ]
    placed = {patient for patients in folds[0].values() for patient in patients}
    return {
        "format": FORMAT,
        "seed": seed,
        "folds": [
            {**fold, "label_orders": _label_orders(cases, fold["training"], (seed, f))} for f, fold in enumerate(folds)
        ],
        "unlabelled": sorted({c.patient for c in cases} - placed),
    }


def _label_orders(cases: Sequence[Case], training: Sequence[str], seed: tuple[int, int]) -> list[list[str]]:
    images = sorted(c.image for c in cases if c.label and c.patient in training)
    return [np.random.default_rng([*seed, draw]).permutation(images).tolist() for draw in range(N_DRAWS)]
